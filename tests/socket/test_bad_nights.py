"""What an operator meets at night: a database replaced or gone under a server, no room for its log, a mistyped URL."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy.exc import DatabaseError

from outbox import open_engine, reading, writing
from relay.serve.listening import SocketFile
from tests.conftest import Stores
from tests.socket.clients import answers, ask, connect, gateway, line, params, path, url
from tests.socket.waiting import DEADLINE_SECONDS, until_taken

pytestmark = pytest.mark.only("sqlite", because="a file can be moved, removed and mistaken for another")


def database_files(stores: Stores) -> list[Path]:
    return sorted(stores.folder.glob("gateway.db*"))


def test_p03_an_invite_that_was_committed_to_a_replaced_database_is_not_reported_as_mirrored(stores: Stores) -> None:
    with gateway(stores), connect(stores) as client:
        ask(stores, line(given=params(id="before")))
        with stores.mirror.connect() as locked, locked.begin() as transaction:
            client.sendall(line(given=params(id="lost")))
            until_taken(client)
            for file in database_files(stores):
                file.rename(file.with_name(f"away-{file.name}"))
            with open_engine(stores.mirror_url).connect():
                pass
            transaction.rollback()
        (answer,) = answers(client, 1)
    assert "was replaced" in answer["error"]


def test_a_request_does_not_make_a_database_that_was_removed(stores: Stores) -> None:
    with gateway(stores), connect(stores) as client:
        stores.mirror.dispose()
        for file in database_files(stores):
            file.unlink()
        client.sendall(line())
        (answer,) = answers(client, 1)
    assert "SQLiteError: no database at" in answer["error"]
    assert database_files(stores) == []


def test_a_server_whose_log_has_no_room_goes_on_and_ends_well(stores: Stores) -> None:
    command = [sys.executable, "-m", "cli", "gateway", "--listen", url(stores), "--db", stores.mirror_url]
    with Path("/dev/full").open("w") as full:
        process = subprocess.Popen(command, stderr=full, env=os.environ | {"RELAY_LOG_FORMAT": "json"})
    try:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not path(stores).exists():
            assert time.monotonic() < deadline
            assert process.poll() is None
            os.sched_yield()
        # Bound before its store is looked after, so only an answer shows that it serves.
        assert ask(stores, line()) == [{"id": "1", "result": {"id": "inv-1"}}]
        with writing(stores.mirror):
            (refused,) = ask(stores, line())
        assert "locked" in refused["error"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()


def test_an_error_text_is_short_whatever_the_ids_in_it(stores: Stores) -> None:
    with gateway(stores):
        (answer,) = ask(stores, line(given=params(contactId="c" * 2**20)))
    assert "FOREIGN KEY constraint failed" in answer["error"]
    assert len(json.dumps(answer)) < 3_000


def test_folders_made_for_the_socket_are_all_closed_to_others(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        file = SocketFile(tmp_path / "a" / "b" / "g.sock")
    finally:
        os.umask(before)
    file.close()
    assert [oct(one.stat().st_mode & 0o777) for one in (tmp_path / "a", tmp_path / "a" / "b")] == ["0o700", "0o700"]


def test_a_file_that_is_no_database_keeps_its_mode(tmp_path: Path) -> None:
    file = tmp_path / "passwd"
    file.write_text("root:x:0:0:root:/root:/bin/sh\n" * 100)
    file.chmod(0o644)
    engine = open_engine(f"sqlite:///{file}")
    with pytest.raises(DatabaseError), reading(engine):
        pass
    engine.dispose()
    assert oct(file.stat().st_mode & 0o777) == "0o644"
