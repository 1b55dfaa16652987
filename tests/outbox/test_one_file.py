"""An engine has one file, the one that its URL named when it was made, whatever becomes of folders and links."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, make_url
from sqlalchemy.orm import Session

import outbox
from outbox import DatabaseMissingError, MountedFileError, configure_engine, open_engine
from outbox.database.files import place_of
from outbox.database.sqlite import sqlite_module, sqlite_path
from tests.conftest import rows
from tests.outbox.forking import add, commit, configured
from tests.outbox.listening import ear, woken
from tests.outbox.test_engine_sqlite import beside, modes

Make = Callable[..., Engine]
NAMES = (
    "sqlite:///a.db",
    "sqlite:///./sub/../a.db",
    "sqlite:///file:a.db?uri=true",
    "sqlite:///file:./a.db?uri=true&mode=rwc",
)
names = pytest.mark.parametrize("url", NAMES)
makes = pytest.mark.parametrize("make", [open_engine, configured])


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory, with another beside it."""
    for name in ("here", "there"):
        (tmp_path / name / "sub").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    before = os.umask(0o022)
    yield tmp_path / "here"
    os.umask(before)


def upgraded(path: Path) -> Path:
    engine = open_engine(f"sqlite:///{path}")
    outbox.upgrade(engine)
    engine.dispose()
    return path


def keys(path: Path) -> list[str]:
    engine = open_engine(f"sqlite:///{path}", create=False)
    found = [row["key"] for row in rows(engine, "SELECT key FROM outbox_messages ORDER BY seq")]
    engine.dispose()
    return found


def test_two_engines_of_one_relative_name_are_two_files_after_a_change_of_folder(here: Path) -> None:
    engines = []
    for folder in (here, here.with_name("there")):
        os.chdir(folder)
        engines.append(open_engine("sqlite:///a.db"))
        outbox.upgrade(engines[-1])
        commit(engines[-1], folder.name)

    assert [sqlite_path(engine) for engine in engines] == [here / "a.db", here.with_name("there") / "a.db"]
    for engine in engines:
        path = sqlite_path(engine)
        assert path is not None
        assert modes(*beside(path)) == ["0o600"] * 3
        engine.dispose()
        assert keys(path) == [path.parent.name]


@names
@makes
def test_a_relative_name_leads_to_the_folder_of_its_making(here: Path, url: str, make: Make) -> None:
    engine = make(url)
    os.chdir("../there")
    outbox.upgrade(engine)

    with ear(here / "a.db") as heard:
        commit(engine, "a")
        assert woken(heard) == 1

    assert modes(*beside(here / "a.db")) == ["0o600"] * 3
    assert [path.name for path in here.with_name("there").iterdir()] == ["sub"]
    engine.dispose()
    assert keys(here / "a.db") == ["a"]


def test_an_engine_made_elsewhere_is_set_up_for_the_folder_that_it_was_made_in(here: Path) -> None:
    engine = create_engine("sqlite:///a.db", module=sqlite_module())
    os.chdir("../there")
    configure_engine(engine)
    outbox.upgrade(engine)

    assert sqlite_path(engine) == here / "a.db"
    assert modes(here / "a.db") == ["0o600"]
    engine.dispose()


@names
@makes
def test_a_file_that_must_exist_is_looked_for_where_it_would_be_opened(here: Path, url: str, make: Make) -> None:
    upgraded(here / "a.db")
    os.chdir("../there")
    engine = open_engine(url, create=False) if make is open_engine else create_engine(url, module=sqlite_module())
    if make is not open_engine:
        configure_engine(engine, create=False)

    with pytest.raises(DatabaseMissingError, match=r"no database at .*there/a\.db"):
        engine.connect()

    engine.dispose()
    assert [path.name for path in here.with_name("there").iterdir()] == ["sub"]


def test_a_uri_that_forbids_to_create_a_file_creates_none(here: Path) -> None:
    engine = open_engine("sqlite:///file:a.db?uri=true&mode=rw")

    with pytest.raises(DatabaseMissingError, match="no database at"):
        engine.connect()

    engine.dispose()
    assert not (here / "a.db").exists()


@names
@makes
def test_a_replaced_file_is_noticed_whatever_it_was_called(here: Path, url: str, make: Make) -> None:
    engine = make(url)
    outbox.upgrade(engine)
    restored = upgraded(here / "restored.db")
    for path in beside(here / "a.db")[1:]:
        path.unlink()
    restored.replace(here / "a.db")

    commit(engine, "in the new file")

    assert keys(here / "a.db") == ["in the new file"]
    engine.dispose()


@makes
def test_a_link_that_is_pointed_elsewhere_takes_no_engine_with_it(here: Path, make: Make) -> None:
    one, two, link = upgraded(here / "one.db"), upgraded(here / "two.db"), here / "current.db"
    link.symlink_to(one)
    engine = make(f"sqlite:///{link}")
    commit(engine, "before")
    (here / "next").symlink_to(two)
    (here / "next").replace(link)

    with engine.connect():
        commit(engine, "on a new connection")
    engine.dispose()
    commit(engine, "on a new pool")
    engine.dispose()

    assert (len(keys(one)), len(keys(two))) == (3, 0)


def test_a_message_wakes_whoever_listens_beside_the_file_though_its_engine_was_not_set_up(here: Path) -> None:
    upgraded(here / "a.db")
    engine = create_engine("sqlite:///a.db", module=sqlite_module())
    os.chdir("../there")

    with ear(here / "a.db") as heard, Session(engine) as session:
        add(session, "a")
        session.commit()
        assert woken(heard) == 1
    engine.dispose()


IN_MEMORY = ("file::memory:?uri=true", "file:x?mode=memory&uri=true", "file:/x?vfs=memdb&uri=true", "file:?uri=true")


@pytest.mark.parametrize("name", IN_MEMORY)
def test_a_uri_of_a_database_in_memory_has_no_file(name: str) -> None:
    assert place_of(make_url(f"sqlite:///{name}")) is None


@pytest.mark.parametrize("name", ["file:/x/a%20b.db", "file:///x/a%20b.db", "file://localhost/x/a%20b.db", "/x/a b.db"])
def test_a_file_is_known_by_its_path_however_a_uri_puts_it(name: str) -> None:
    place = place_of(make_url(f"sqlite:///{name}?uri=true"))

    assert place is not None
    assert place.path == Path("/x/a b.db")


def test_a_link_in_a_circle_is_said_to_be_none_to_a_database(here: Path) -> None:
    (here / "a.db").symlink_to("b.db")
    (here / "b.db").symlink_to("a.db")
    engine = open_engine("sqlite:///a.db", create=False)

    with pytest.raises(DatabaseMissingError, match="no database at"):
        engine.connect()


def can_mount() -> bool:
    tried = (
        subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False) if os.geteuid() == 0 else None
    )
    return tried is not None and tried.returncode == 0


IN_A_MOUNT = """
import sys
from outbox import open_engine
try:
    open_engine(sys.argv[1]).connect()
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.skipif(sys.platform != "linux" or not can_mount(), reason="only root can mount")
def test_a_file_that_is_mounted_by_itself_is_refused_and_its_folder_is_not(here: Path) -> None:
    inside, folder = here.with_name("with a space") / "a.db", here.with_name("folder")
    inside.parent.mkdir()
    folder.mkdir()
    inside.touch()
    upgraded(here / "a.db")

    def tried(what: Path, at: Path, url: str) -> str:
        script = f"mount --bind '{what}' '{at}' && exec \"$@\""
        words = [
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "bash",
            "-c",
            script,
            "-",
            sys.executable,
            "-c",
            IN_A_MOUNT,
            url,
        ]
        return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False).stdout

    refused = tried(here / "a.db", inside, f"sqlite:///{inside}")
    assert refused.startswith(MountedFileError.__name__)
    assert f"mount its folder, {inside.parent}, instead of the file" in refused
    assert tried(here, folder, f"sqlite:///{folder / 'a.db'}") == ""
