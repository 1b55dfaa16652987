"""URLs that lead nowhere, or to something else: one line, the right exit code, and nothing created."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from outbox.database.postgresql import DRIVER
from tests.conftest import Stores
from tests.databases import server_url
from tests.system.processes import Ended, relay, relay_at
from tests.system.test_command_usage import COMMANDS

NEED_A_DATABASE = COMMANDS[1:]
UNUSABLE = [
    "nonsense",
    "",
    "sqlite://",
    "sqlite:///:memory:",
    "sqlite:///file:x?uri=true",
    "sqlite://host/x.db",
    "sqlite:///x.db?timeout=abc",
    "sqlite+aiosqlite:///x.db",
    "mysql://host/name",
    "postgresql://host/name",
    "postgresql+psycopg2://host/name",
    "postgresql+asyncpg://host/name",
    f"{DRIVER}://host",
    f"{DRIVER}://host/",
    f"{DRIVER}://host:port/name",
    f"{DRIVER}://host/name?port=1&port=2",
]


def refused(ended: Ended, option: str) -> bool:
    return ended.code == 2 and ended.only_line.startswith(f"relay: {option}") and ended.out == ""


@pytest.fixture
def nowhere(tmp_path: Path, backend: str) -> Iterator[tuple[str, str]]:
    """Options that name databases which do not exist; nor do they afterwards."""
    if backend == "postgresql":
        yield f"--assistant-db={server_url('nowhere_a')}", f"--gateway={server_url('nowhere_g')}"
        return
    empty = tmp_path / "empty"
    empty.mkdir()
    yield f"--assistant-db=sqlite:///{empty}/a.db", f"--gateway=sqlite:///{empty}/g.db"
    assert list(empty.iterdir()) == []


@pytest.mark.parametrize("command", NEED_A_DATABASE)
def test_a_missing_database_is_4_and_one_line_and_creates_nothing(
    tmp_path: Path, nowhere: tuple[str, str], backend: str, command: tuple[str, ...]
) -> None:
    ended = relay_at(tmp_path, *nowhere, *command)
    assert ended.code == 4
    assert {"sqlite": "relay init", "postgresql": 'database "nowhere_'}[backend] in ended.only_line


@pytest.mark.only("postgresql", because="a file is created")
def test_init_does_not_create_a_servers_database(tmp_path: Path, nowhere: tuple[str, str]) -> None:
    for _ in range(2):
        ended = relay_at(tmp_path, *nowhere, "init")
        assert ended.code == 4
        assert 'database "nowhere_a" does not exist' in ended.only_line


@pytest.mark.parametrize("command", NEED_A_DATABASE)
def test_a_database_without_an_outbox_is_4_and_one_line(stores: Stores, command: tuple[str, ...]) -> None:
    ended = relay_at(stores.folder, "--assistant-db", stores.mirror_url, "--gateway", stores.source_url, *command)
    assert ended.code == 4
    assert "`relay init`" in ended.only_line


@pytest.mark.only("sqlite", because="a server's database is no file")
@pytest.mark.parametrize("command", NEED_A_DATABASE)
def test_a_file_that_is_no_database_is_4_and_one_line(stores: Stores, command: tuple[str, ...]) -> None:
    odd = stores.folder / "odd.db"
    odd.write_bytes(b"this is no database\n" * 500)
    ended = relay_at(stores.folder, "--assistant-db", f"sqlite:///{odd}", "--gateway", stores.mirror_url, *command)
    assert ended.code == 4
    assert "file is not a database" in ended.only_line


@pytest.mark.parametrize(
    "url",
    [
        "unix://",
        "unix:///",
        "unix://relative.sock",
        "unix:",
        "unix:sock/g.sock",
        "unix:/run/g.sock",
        "Unix:///run/g.sock",
        "/run/g.sock",
        "sock/g.sock",
    ],
)
@pytest.mark.parametrize("command", [("status",), ("init",)])
def test_a_socket_url_in_another_form_is_2_and_tells_the_right_one(
    tmp_path: Path, url: str, command: tuple[str, ...]
) -> None:
    for run in (("--gateway", url, *command), ("gateway", "--listen", url, "--db", "sqlite:///g.db")):
        ended = relay_at(tmp_path, *run)
        assert ended.code == 2
        assert ended.only_line.endswith(": a socket is written unix:///absolute/path.sock")
        assert list(tmp_path.glob("*.db")) == []


@pytest.mark.parametrize("command", [("status",), ("init",)])
def test_a_socket_whose_path_is_too_long_is_2_and_names_the_option(tmp_path: Path, command: tuple[str, ...]) -> None:
    assert refused(relay_at(tmp_path, "--gateway", "unix:///" + "x" * 108, *command), "--gateway")
    assert list(tmp_path.glob("*.db")) == []


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_one_file_for_both_stores_is_2_and_names_it(tmp_path: Path, command: tuple[str, ...]) -> None:
    ended = relay_at(tmp_path, "--assistant-db", "sqlite:///one.db", "--gateway", "sqlite:///one.db", *command)
    assert refused(ended, "--assistant-db and --gateway name the same file")
    assert str(tmp_path / "one.db") in ended.only_line
    assert list(tmp_path.glob("*.db")) == []


@pytest.mark.parametrize(
    "name", ["linked.db", "hard.db", "./one.db", "folder/../one.db", "link/one.db", "{tmp}/one.db"]
)
@pytest.mark.parametrize("from_environment", [False, True])
def test_another_name_of_the_same_file_is_no_other_file(tmp_path: Path, name: str, from_environment: bool) -> None:
    one = tmp_path / "one.db"
    one.touch(0o600)
    (tmp_path / "linked.db").symlink_to(one)
    (tmp_path / "hard.db").hardlink_to(one)
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path)
    url = f"sqlite:///{name.format(tmp=tmp_path)}"
    if from_environment:
        ended = relay_at(tmp_path, "init", RELAY_ASSISTANT_DB=url, RELAY_GATEWAY="sqlite:///one.db")
    else:
        ended = relay_at(tmp_path, "--assistant-db", "sqlite:///one.db", "--gateway", url, "init")
    assert refused(ended, "--assistant-db and --gateway name the same file")
    assert one.stat().st_size == 0


def test_a_socket_takes_invites_but_shows_none(stores: Stores) -> None:
    ended = relay(stores, "--gateway", f"unix://{stores.folder}/none.sock", "verify")
    assert ended.code == 4
    assert "sqlite:///PATH" in ended.only_line


def test_an_assistants_database_is_no_socket(tmp_path: Path) -> None:
    assert refused(relay_at(tmp_path, "--assistant-db", "unix:///run/gateway.sock", "status"), "--assistant-db")


@pytest.mark.parametrize("url", UNUSABLE)
@pytest.mark.parametrize("option", ["--assistant-db", "--gateway"])
@pytest.mark.parametrize("command", [("status",), ("init",)])
def test_a_url_that_cannot_be_used_is_2_and_names_the_option(
    tmp_path: Path, url: str, option: str, command: tuple[str, ...]
) -> None:
    assert refused(relay_at(tmp_path, option, url, *command), option)
    assert list(tmp_path.glob("*.db")) == []
