"""The README is true: what it names exists, and what exists is named."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from cli import main
from relay.settings import Settings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def commands(group: click.Group, *before: str) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, *before, name)
        else:
            yield (*before, name)


def options(path: tuple[str, ...]) -> list[str]:
    command: click.Command = main
    for name in path:
        assert isinstance(command, click.Group)
        command = command.commands[name]
    return [one for parameter in command.params for one in parameter.opts if one.startswith("--")]


COMMANDS = sorted(commands(main))


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_each_command_is_in_the_readme_with_its_options(path: tuple[str, ...]) -> None:
    assert f"`relay {' '.join(path)}" in README
    assert [option for option in options(path) if option not in README] == []


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_each_command_has_help(path: tuple[str, ...]) -> None:
    shown = subprocess.run([sys.executable, "-m", "cli", *path, "--help"], capture_output=True, text=True, check=False)
    assert shown.returncode == 0
    assert [option for option in options(path) if option not in shown.stdout] == []


def test_the_readme_names_no_command_that_is_missing() -> None:
    named = set(re.findall(r"`relay ((?:[a-z]+)(?: (?:list|show|retry|drop))?)", README))
    assert {tuple(name.split()) for name in named} == set(COMMANDS)


def test_each_setting_is_in_the_readme_and_none_more() -> None:
    settings = {f"RELAY_{name.upper()}" for name in Settings.model_fields}
    assert set(re.findall(r"RELAY_[A-Z_]+[A-Z]", README)) == settings


def test_each_unset_value_in_the_readme_is_the_one_in_force() -> None:
    seconds = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    found = {}
    for names, values in re.findall(r"^\| (`RELAY_[^|]*?) \| ([^|]*?) \|", README, re.MULTILINE):
        for name, value in zip(re.findall(r"RELAY_([A-Z_]+)", names), values.split(", "), strict=True):
            found[name.lower()] = value.strip("`")
    settings = Settings.model_construct()
    for name, shown in found.items():
        value, *unit = shown.split(" ")
        kept = getattr(settings, name)
        actual = float(value) * seconds[unit[0]] == kept.total_seconds() if unit else value == str(kept)
        assert actual, f"{name}: the README says {shown}, the code {kept}"
    assert found.keys() == Settings.model_fields.keys()


def test_the_python_in_the_readme_works_as_shown(tmp_path: Path) -> None:
    first, second = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    relay = [sys.executable, "-m", "cli"]
    subprocess.run([*relay, "init"], cwd=tmp_path, check=True, capture_output=True)
    subprocess.run([sys.executable, "-c", first + second], cwd=tmp_path, check=True)
    subprocess.run([*relay, "run", "--until-empty"], cwd=tmp_path, check=True, capture_output=True)
    subprocess.run([*relay, "verify"], cwd=tmp_path, check=True, capture_output=True)


def test_no_placeholder_is_left_where_a_figure_belongs() -> None:
    _, _, figures = README.partition("## Figures")
    table = figures.partition("## Layout")[0]
    assert re.findall(r"\b(?:TODO|TBD|FIGURES|XXX)\b", README) == []
    assert len(re.findall(r"[0-9.,]+ ?(?:ms|/s|%)", table)) >= 8


def test_each_file_that_the_readme_names_exists() -> None:
    named = set(re.findall(r"\b(?:outbox|assistant_store|gateway_store|relay|tests|docs|bench)/[\w./-]*\w", README))
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
