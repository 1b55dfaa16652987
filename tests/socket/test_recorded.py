"""Every exchange recorded from the real gateway, replayed against ours byte for byte."""

import base64
import json
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Stores, rows, write
from tests.socket.clients import NO_SUCH_METHOD, answers, connect
from tests.socket.conftest import Served

RECORDINGS = sorted(Path(__file__).with_name("wire").glob("*.json"))
INVALID = "Invalid params: "


@pytest.fixture
def served(shared: Served) -> Stores:
    """The recordings share ids, so each starts without rows."""
    write(shared.stores.mirror, "DELETE FROM ingress_invites")
    return shared.stores


def paths(error: str) -> list[list[str]]:
    return [issue["path"] for issue in json.loads(error.removeprefix(INVALID))]


def same(ours: dict[str, Any], recorded: dict[str, Any]) -> bool:
    """Ids, shapes, prefixes and paths; the real validator has its own prose, and had no codes when it was recorded."""
    ours = {name: value for name, value in ours.items() if name in ("id", "result", "error")}
    error = recorded.get("error", "")
    if error.startswith(INVALID):
        alike = ours["error"].startswith(INVALID) and paths(ours["error"]) == paths(error)
        return alike and ours.keys() == recorded.keys() and ours["id"] == recorded["id"]
    if "FOREIGN KEY constraint failed" in error:
        return ours["id"] == recorded["id"] and "FOREIGN KEY constraint failed" in ours["error"]
    return ours == recorded


def play(client: socket.socket, recording: dict[str, Any]) -> None:
    """Answers as recorded, in order, and the connection as usable as it was."""
    for chunk in recording["request_chunks"]:
        client.sendall(base64.b64decode(chunk["base64"]))
    if recording["half_close_after"]:
        client.shutdown(socket.SHUT_WR)
    expected = recording["response_lines"]
    found = answers(client, len(expected)) if expected else []
    assert [one for one, other in zip(found, expected, strict=True) if not same(one, other)] == []
    if recording["connection_usable_after"]:
        client.sendall(b'{"id":"after","method":"zz"}\n')
        assert answers(client, 1) == [{"id": "after", "error": "Unknown method: zz"} | NO_SUCH_METHOD]
    else:
        client.shutdown(socket.SHUT_WR) if not recording["half_close_after"] else None
        assert client.recv(1) == b""


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_a_recorded_exchange_gets_the_recorded_answer(served: Stores, path: Path) -> None:
    recording = json.loads(path.read_text())
    with connect(served) as client:
        if path.stem.startswith("02"):
            play(client, json.loads(RECORDINGS[0].read_text()))
        play(client, recording)
    if recording["row_after"]:
        (row,) = rows(served.mirror, f"SELECT * FROM ingress_invites WHERE id = '{recording['row_after']['id']}'")
        assert row == recording["row_after"]


def test_all_recorded_exchanges_one_after_the_other_get_the_recorded_answers(served: Stores) -> None:
    for path in RECORDINGS:
        with connect(served) as client:
            play(client, json.loads(path.read_text()))

    # Where the recording shows the row as the last writer left it, ours is merged; here both agree.
    (row,) = rows(served.mirror, "SELECT status, use_count, created_at FROM ingress_invites WHERE id = 'rec-16197'")
    assert row == {"status": "redeemed", "use_count": 1, "created_at": 1795400000000}
