"""Where another user could change or replace what is opened, nothing is opened, and the place is named."""

import os
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import create_engine

import outbox
from outbox import UntrustedPlaceError, configure_engine, open_engine
from outbox.database.sqlite import sqlite_module
from outbox.database.untouched import untouched
from tests.outbox.other_users import (
    STRANGER,
    VICTIM,
    as_root,
    file_of,
    folder_of,
    link_of,
    open_way,
    refusal,
    refusal_to,
)

pytestmark = pytest.mark.only("sqlite", because="a PostgreSQL server keeps its own files")
assert open_way, "a fixture"

OPEN_TO_OTHERS = (0o777, 0o1777, 0o770, 0o1770, 0o722, 0o702)
ENDS = ("", "-wal", "-shm", "-journal")


def made(path: Path) -> Path:
    """A closed database, with no file beside it."""
    engine = open_engine(f"sqlite:///{path}")
    outbox.upgrade(engine)
    engine.dispose()
    return path


def given_away(path: Path, uid: int) -> Path:
    os.chown(path, uid, uid)
    return path


def beside(path: Path, end: str) -> Path:
    return path.with_name(path.name + end)


def mode(path: Path) -> str:
    return oct(stat.S_IMODE(path.stat().st_mode))


@pytest.mark.parametrize("rights", OPEN_TO_OTHERS, ids=oct)
@pytest.mark.parametrize("create", [True, False])
def test_a_folder_that_holds_a_database_and_that_others_can_write_to_is_refused(
    tmp_path: Path, rights: int, create: bool
) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(rights)

    said = refusal(tmp_path / "shared" / "a.db", create=create)

    assert said is not None
    assert said.startswith(f"UntrustedPlaceError: {tmp_path}/shared can be written to by others")
    assert list((tmp_path / "shared").iterdir()) == []


def test_the_folder_of_all_users_holds_no_database() -> None:
    said = refusal(Path(f"/tmp/relay-tests-{os.getpid()}.db"))  # noqa: S108

    assert said is not None
    assert said.startswith("UntrustedPlaceError: /tmp can be written to by others")
    assert not Path(f"/tmp/relay-tests-{os.getpid()}.db").exists()  # noqa: S108


@pytest.mark.parametrize(
    ("rights", "is_used"),
    [(0o777, False), (0o770, False), (0o702, False), (0o1777, True), (0o1770, True), (0o755, True)],
)
def test_a_folder_further_up_that_others_can_write_to_must_be_sticky(
    tmp_path: Path, rights: int, is_used: bool
) -> None:
    (tmp_path / "up" / "own").mkdir(parents=True)
    (tmp_path / "up").chmod(rights)

    said = refusal(tmp_path / "up" / "own" / "a.db")

    assert is_used == (said is None)
    assert is_used or f"{tmp_path}/up can be written to by others" in str(said)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("rights", [0o666, 0o660, 0o602, 0o620], ids=oct)
def test_a_file_of_a_database_that_others_can_write_to_is_refused(tmp_path: Path, end: str, rights: int) -> None:
    path = made(tmp_path / "a.db")
    beside(path, end).touch()
    beside(path, end).chmod(rights)

    said = refusal(path)

    assert said == f"UntrustedPlaceError: {path}{end} can be written to by others; if nobody has, chmod 600 it"
    beside(path, end).chmod(0o600)
    assert refusal(path) is None


@pytest.mark.parametrize("end", ENDS)
def test_a_file_that_others_can_write_to_is_not_even_read_by_what_leaves_it_untouched(tmp_path: Path, end: str) -> None:
    path = made(tmp_path / "a.db")
    engine = open_engine(f"sqlite:///{path}", create=False)
    reader = untouched(engine)
    beside(path, end).touch()
    beside(path, end).chmod(0o666)

    for read in (reader.connect, lambda: untouched(engine)):
        with pytest.raises(UntrustedPlaceError, match=f"{end} can be written to by others"):
            read()


def test_an_engine_that_was_made_elsewhere_is_held_to_the_same(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o1777)
    for url in (f"sqlite:///{tmp_path}/shared/a.db", f"sqlite:///file:{tmp_path}/shared/a.db?uri=true"):
        engine = create_engine(url, module=sqlite_module())
        configure_engine(engine)

        with pytest.raises(UntrustedPlaceError, match="shared can be written to by others"):
            outbox.upgrade(engine)

    assert list((tmp_path / "shared").iterdir()) == []


def test_each_new_connection_is_held_to_it(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    engine = open_engine(f"sqlite:///{tmp_path}/own/a.db")
    outbox.upgrade(engine)
    engine.dispose()
    (tmp_path / "own").chmod(0o777)

    with pytest.raises(UntrustedPlaceError, match="own can be written to by others"):
        engine.connect()


@pytest.mark.parametrize("end", ENDS[:3])
def test_a_file_that_came_while_the_database_was_being_opened_is_not_used(tmp_path: Path, end: str) -> None:
    path = made(tmp_path / "a.db")
    module = sqlite_module()

    def connect(*args: Any, **kwargs: Any) -> Any:
        # SQLite itself takes the rights off an empty one.
        beside(path, end).write_bytes(b"x" if end else path.read_bytes())
        beside(path, end).chmod(0o666)
        return module.connect(*args, **kwargs)

    driver: Any = SimpleNamespace(**vars(module) | {"connect": connect})
    engine = open_engine(f"sqlite:///{path}", module=driver)

    with pytest.raises(UntrustedPlaceError, match=rf"{path}{end} can be written to by others"):
        engine.connect()
    engine.dispose()


@pytest.mark.parametrize("named", ["{}", " {} ", "0,{}", "{},77"])
def test_whoever_is_named_may_let_others_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str) -> None:
    (tmp_path / "shared").mkdir()
    path = made(tmp_path / "shared" / "a.db")
    (tmp_path / "shared").chmod(0o770)
    path.chmod(0o660)
    monkeypatch.setenv("RELAY_TRUSTED_UID", named.format(os.geteuid()))

    engine = open_engine(f"sqlite:///{path}")
    with engine.connect():
        found = [mode(beside(path, end)) for end in ENDS[:3]]
    engine.dispose()

    # Those who share it can go on.
    assert found == ["0o660"] * 3


def test_a_database_is_private_though_its_owner_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = made(tmp_path / "a.db")
    path.chmod(0o644)
    monkeypatch.setenv("RELAY_TRUSTED_UID", str(os.geteuid()))

    assert refusal(path) is None
    assert mode(path) == "0o600"


@pytest.mark.parametrize("named", ["root", "-1", "1000;1001", "4294967295", "0x0", "1.0", "٣"])
def test_what_names_nobody_is_refused_with_what_it_should_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    monkeypatch.setenv("RELAY_TRUSTED_UID", named)

    assert str(refusal(tmp_path / "a.db")).startswith("UntrustedPlaceError: RELAY_TRUSTED_UID must be a user's number")
    assert list(tmp_path.iterdir()) == []


@as_root
@pytest.mark.parametrize("end", ENDS)
def test_a_file_of_another_user_is_refused_unless_that_user_is_named(open_way: Path, end: str) -> None:
    path = given_away(made(folder_of(VICTIM, open_way / "own") / "a.db"), VICTIM)
    beside(path, end).touch()
    given_away(beside(path, end), STRANGER)
    beside(path, end).chmod(0o666)

    said = refusal_to(VICTIM, path)

    assert said is not None
    assert said.startswith(f"UntrustedPlaceError: {path}{end} belongs to another user ({STRANGER})")
    assert beside(path, end).stat().st_size == 0 or not end
    assert refusal_to(VICTIM, path, trusted="77") == said
    assert refusal_to(VICTIM, path, trusted=str(STRANGER)) is None


@as_root
@pytest.mark.parametrize("up", ["own", "own/deep/deeper"])
@pytest.mark.parametrize("rights", [0o755, 0o777, 0o1777])
def test_a_folder_of_another_user_is_refused_unless_that_user_is_named(open_way: Path, up: str, rights: int) -> None:
    theirs = folder_of(STRANGER, open_way / "theirs", rights)
    made_in = theirs
    for part in up.split("/"):
        made_in = folder_of(VICTIM, made_in / part)

    said = refusal_to(VICTIM, made_in / "a.db")

    assert said is not None
    assert said.startswith(f"UntrustedPlaceError: {theirs} belongs to another user ({STRANGER})")
    assert list(made_in.iterdir()) == []
    assert refusal_to(VICTIM, made_in / "a.db", trusted=str(STRANGER)) is None


@as_root
def test_a_folder_that_another_user_made_first_is_refused(open_way: Path) -> None:
    shared = folder_of(0, open_way / "shared", 0o1777)
    theirs = folder_of(STRANGER, shared / "gw", 0o777)

    assert f"{theirs} belongs to another user" in str(refusal_to(VICTIM, theirs / "a.db"))
    assert list(theirs.iterdir()) == []


@as_root
@pytest.mark.parametrize("what", ["file", "folder", "chain"])
@pytest.mark.parametrize("owner", [STRANGER, VICTIM, 0])
def test_a_link_is_followed_where_no_other_user_could_have_made_it(open_way: Path, what: str, owner: int) -> None:
    shared, own = folder_of(0, open_way / "shared", 0o1777), folder_of(VICTIM, open_way / "own")
    target = file_of(VICTIM, own / "a.db")
    match what:
        case "file":
            link = name = link_of(owner, shared / "link", target)
        case "folder":
            link = link_of(owner, shared / "link", own)
            name = link / "a.db"
        case _:
            link = link_of(owner, shared / "link", target)
            name = link_of(VICTIM, own / "first", link)

    said = refusal_to(VICTIM, name)

    if owner == STRANGER:
        assert str(said).startswith(f"UntrustedPlaceError: the link {link} belongs to another user ({STRANGER})")
        assert target.stat().st_size == 0
        assert refusal_to(VICTIM, name, trusted=str(STRANGER)) is None
    else:
        assert said is None
        assert target.stat().st_size > 0


@as_root
def test_links_in_a_circle_that_another_user_could_undo_are_refused(open_way: Path) -> None:
    shared, own = folder_of(0, open_way / "shared", 0o1777), folder_of(VICTIM, open_way / "own")
    link_of(STRANGER, shared / "link", own / "round")

    said = refusal_to(VICTIM, link_of(VICTIM, own / "round", shared / "link"))

    assert str(said).startswith(f"UntrustedPlaceError: the link {shared}/link belongs to another user ({STRANGER})")


@as_root
def test_a_link_of_another_user_beside_a_database_is_refused(open_way: Path) -> None:
    path = file_of(VICTIM, folder_of(VICTIM, open_way / "own") / "a.db")
    link = link_of(STRANGER, path.with_name("a.db-wal"), path.with_name("elsewhere"))

    assert f"{link} belongs to another user ({STRANGER})" in str(refusal_to(VICTIM, path))
    assert not path.with_name("elsewhere").exists()


@as_root
def test_root_trusts_the_owner_of_the_files_that_it_is_pointed_at_and_nobody_else(open_way: Path) -> None:
    own = folder_of(VICTIM, open_way / "own")
    path = given_away(made(own / "a.db"), VICTIM)
    assert refusal(path) is None
    assert refusal(own / "new.db") is None

    wal = file_of(STRANGER, beside(path, "-wal"))
    assert f"{wal} belongs to another user ({STRANGER})" in str(refusal(path))
    wal.unlink()

    given_away(own, STRANGER)
    assert f"{own} belongs to another user ({STRANGER})" in str(refusal(path))


@as_root
@pytest.mark.parametrize("rights", [0o1777, 0o755])
def test_root_follows_its_owners_links_where_only_the_owner_can_make_one(open_way: Path, rights: int) -> None:
    path = file_of(VICTIM, folder_of(VICTIM, open_way / "own") / "a.db")
    link = link_of(VICTIM, folder_of(0, open_way / "shared", rights) / "link", path)

    assert (refusal(link) is None) == (rights == 0o755)


@as_root
def test_root_does_not_use_a_folder_further_up_of_somebody_else(open_way: Path) -> None:
    up = folder_of(STRANGER, open_way / "up", 0o755)
    path = file_of(VICTIM, folder_of(VICTIM, up / "own") / "a.db")

    assert f"{up} belongs to another user ({STRANGER})" in str(refusal(path))
    assert path.stat().st_size == 0
