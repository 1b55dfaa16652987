"""`relay status` says whether the gateway takes messages, and not only whether it answers; it changes nothing."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import Stores, rows
from tests.outbox.test_one_file import can_mount
from tests.relay.outages import Trouble, missing, read_only, without_right_to_write
from tests.relay.test_closed_topics import make_newer
from tests.socket import scripted
from tests.socket.clients import NOBODY, gateway, path, url
from tests.system import as_nobody
from tests.system.processes import RELAY, Ended, relay

ROOT = 0
UNKNOWN = scripted.error("Unknown method: mirror_invite_create")
INVALID = scripted.error('Invalid params: [{"path": ["tokenHash"]}]')


def assert_read_only(ended: Ended, words: str) -> None:
    found = ended.json
    assert (ended.code, found["gateway"]) == (1, "read-only")
    assert words in found["gateway_problem"]
    assert any(words in one and "cannot be written to" in one for one in found["warnings"])


def everything_in(stores: Stores) -> list[list[dict[str, object]]]:
    return [
        rows(engine, f"SELECT * FROM {table} ORDER BY 1")
        for engine, table in (
            (stores.mirror, "ingress_invites"),
            (stores.mirror, "store_identity"),
            (stores.source, "outbox_messages"),
            (stores.source, "outbox_routes"),
            (stores.source, "outbox_relays"),
        )
    ]


@pytest.mark.only("postgresql", because="a server is set to read-only, and has rights of roles")
@pytest.mark.parametrize("through", ["its database", "its socket"])
@pytest.mark.parametrize("trouble", [read_only, without_right_to_write])
def test_a_server_that_takes_no_writes_is_read_only_and_1(stores: Stores, trouble: Trouble, through: str) -> None:
    if through == "its socket":
        with gateway(stores), trouble(stores):
            ended = relay(stores, "--gateway", url(stores), "status", "--json")
    else:
        with trouble(stores):
            ended = relay(stores, "status", "--json")
    assert_read_only(ended, "read-only")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("mode", [0o444, 0o644])
@pytest.mark.parametrize("folder_of", [ROOT, NOBODY])
def test_a_file_that_this_user_may_only_read_is_read_only_and_1(mode: int, folder_of: int) -> None:
    with as_nobody.readable_gateway(mode, folder_of) as stores:
        ended = as_nobody.run(stores, "status", "--json")
        assert_read_only(ended, f"belongs to user {ROOT} with mode {mode:04o}, and user {NOBODY} may not write it")


@pytest.mark.only("sqlite", because="what is tested is the socket")
@pytest.mark.parametrize(
    "words", ["SQLiteError: attempt to write a readonly database", "DatabaseError: it is read-only"]
)
def test_a_socket_whose_store_takes_no_writes_is_read_only_and_1(stores: Stores, words: str) -> None:
    path(stores).parent.mkdir(mode=0o700)
    with scripted.scripted(path(stores), INVALID) as server:
        server.probe_answer = scripted.error(words)
        assert_read_only(relay(stores, "--gateway", url(stores), "status", "--json"), words)


@pytest.mark.only("sqlite", because="what is tested is the socket")
def test_a_gateway_without_the_method_is_1_and_one_that_has_it_is_0(stores: Stores) -> None:
    path(stores).parent.mkdir(mode=0o700)
    with scripted.scripted(path(stores), UNKNOWN) as server:
        without = relay(stores, "--gateway", url(stores), "status", "--json")
        server.answer = INVALID
        having = relay(stores, "--gateway", url(stores), "status", "--json")
    assert (without.code, without.json["gateway"]) == (1, "up")
    assert "Unknown method: mirror_invite_create" in without.json["gateway_lacks"]
    assert any("takes no message: Unknown method: mirror_invite_create" in one for one in without.json["warnings"])
    assert (having.code, having.json["gateway_lacks"], having.json["warnings"]) == (0, None, [])


@pytest.mark.only("sqlite", because="what is tested is the socket")
def test_a_gateway_that_answers_every_message_oddly_is_down_as_a_relay_would_find_it(stores: Stores) -> None:
    path(stores).parent.mkdir(mode=0o700)
    with scripted.scripted(path(stores), scripted.error("TypeError: undefined is not a function")):
        ended = relay(stores, "--gateway", url(stores), "status", "--json")
    assert (ended.code, ended.json["gateway"]) == (4, "down")
    assert "TypeError" in ended.json["gateway_problem"]


@contextmanager
def reached(stores: Stores, through: str) -> Iterator[str]:
    if through == "its database":
        yield stores.mirror_url
        return
    with gateway(stores):
        yield url(stores)


@pytest.mark.parametrize("through", ["its database", "its socket"])
def test_a_topic_that_the_gateway_is_too_old_for_is_1_with_no_relay_to_say_so(stores: Stores, through: str) -> None:
    for _ in range(3):
        stores.create()
    make_newer(stores, [2, 3], version=7)
    with reached(stores, through) as at:
        ended = relay(stores, "--gateway", at, "status", "--json")
    assert ended.code == 1
    assert ended.json["closed"] == [{"topic": "invite.mirror", "reads": 1, "seq": 2}]
    assert any("the topic invite.mirror is closed: message 2" in one for one in ended.json["warnings"])


@pytest.mark.parametrize("through", ["its database", "its socket"])
def test_status_changes_nothing_on_either_side(stores: Stores, through: str) -> None:
    stores.create()
    before = everything_in(stores)
    with reached(stores, through) as at:
        assert relay(stores, "--gateway", at, "status", "--json").json["gateway"] == "up"
    assert everything_in(stores) == before


def test_a_gateway_that_is_down_is_4_whatever_else_is_wrong(stores: Stores) -> None:
    stores.create()
    with missing(stores):
        ended = relay(stores, "status", "--json")
    assert (ended.code, ended.json["gateway"]) == (4, "down")
    assert any("no relay lives" in one for one in ended.json["warnings"])


# SQLite itself needs a little to read a file, and finds a disk that has nothing left unreadable.
FULL = """
mount -t tmpfs -o size=3m,mode=700 none "$PWD" && cd "$PWD" && "$0" init >&2 || exit 90
"$0" status --json >&2 || exit 91
head -c 10000000 /dev/zero > filler 2>/dev/null
truncate -s -200K filler
"$0" status --json
"""


@pytest.mark.skipif(sys.platform != "linux" or not can_mount(), reason="only root can mount")
def test_a_disk_without_room_for_a_batch_is_1(tmp_path: Path) -> None:
    ended = subprocess.run(
        ["unshare", "--mount", "sh", "-c", FULL, RELAY], cwd=tmp_path, capture_output=True, check=False, timeout=60
    )
    assert ended.returncode == 1, ended.stderr
    for name in ("assistant.db", "gateway.db"):
        assert any(f"/{name} is full: " in one for one in json.loads(ended.stdout)["warnings"])
