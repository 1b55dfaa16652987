"""A PostgreSQL server that is down, or is none, and passwords in URLs, which are never shown."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest
from sqlalchemy import make_url

from outbox.database.postgresql import DRIVER
from relay.urls import shown
from tests.conftest import Stores
from tests.databases import MIRROR, database_url
from tests.system.processes import Ended, relay, relay_at

pytestmark = pytest.mark.only("postgresql", because="SQLite has no server and no password")

# Odd enough to be cut up where a URL or a template is taken apart carelessly.
PASSWORD = "p%s:w@rd/1"


def with_password(url: str) -> tuple[str, str]:
    """In its usual place, and among the options."""
    plain = make_url(url)
    return (
        plain.set(password=PASSWORD).render_as_string(hide_password=False),
        plain.update_query_dict({"password": PASSWORD}).render_as_string(hide_password=False),
    )


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.parametrize("command", [("status",), ("init",), ("verify",), ("replay", "--all"), ("run",)])
def test_a_daemons_server_that_is_down_is_4_and_one_line(stores: Stores, command: tuple[str, ...]) -> None:
    url, _ = with_password(f"{DRIVER}://someone@127.0.0.1:{unused_port()}/name")
    ended = relay(stores, "--assistant-db", url, *command)
    assert ended.code == 4
    assert ended.only_line.startswith(f"relay: the assistant's database {shown(url)} cannot be read: ")
    assert "Connection refused" in ended.only_line
    assert_never_shown([ended])


@pytest.mark.parametrize("command", [("init",), ("verify",), ("replay", "--all", "--json")])
def test_a_gateways_server_that_is_down_is_4_and_one_line(stores: Stores, command: tuple[str, ...]) -> None:
    stores.create()
    ended = relay(stores, "--gateway", f"{DRIVER}://someone@127.0.0.1:{unused_port()}/name", *command)
    assert (ended.code, ended.out) == (4, "")
    assert "Connection refused" in ended.err.splitlines()[-1]
    assert "Traceback" not in ended.err


@contextmanager
def answering(words: bytes) -> Iterator[str]:
    """The address of something that takes connections, says ``words`` and no more."""
    kept: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            connection.sendall(words)
            kept.append(connection)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{listening.getsockname()[1]}"
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in kept:
                connection.close()


@pytest.mark.parametrize("words", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b""], ids=["another protocol", "silence"])
def test_a_server_that_is_no_postgresql_is_4_and_not_waited_for(tmp_path: Path, words: bytes) -> None:
    with answering(words) as address:
        url = f"{DRIVER}://someone@{address}/name"
        ended = relay_at(tmp_path, "--assistant-db", url, "dead", "list")
    assert ended.code == 4
    assert ended.only_line.startswith(f"relay: the assistant's database {shown(url)} cannot be read: ")


def test_a_password_is_used_and_never_shown(stores: Stores) -> None:
    stores.create()
    seen: list[Ended] = []
    for source, mirror in zip(with_password(stores.source_url), with_password(stores.mirror_url), strict=True):
        options = ("--assistant-db", source, "--gateway", mirror)
        for command in (("init",), ("init", "--json"), ("run", "--until-empty")):
            seen.append(relay_at(stores.folder, *options, *command, COLUMNS="500"))
            assert seen[-1].code == 0
    assert_never_shown(seen)
    assert "postgres:***@" in seen[0].out


def test_a_password_is_not_shown_in_any_error(stores: Stores, tmp_path: Path) -> None:
    seen: list[Ended] = []
    nowhere = make_url(stores.mirror_url).set(database="nowhere").render_as_string(hide_password=False)
    with database_url("postgresql", tmp_path, "", MIRROR) as no_outbox:
        for url in (no_outbox, nowhere, stores.mirror_url.replace(DRIVER, "postgresql"), stores.mirror_url + "&bad=1"):
            for secret in with_password(url):
                seen.append(relay(stores, "--assistant-db", secret, "status", COLUMNS="500"))
                assert seen[-1].code in (2, 4)
                assert seen[-1].only_line
    for secret in with_password(nowhere):
        for command in (("status", "--json"), ("init",)):
            seen.append(relay(stores, "--gateway", secret, *command))
            assert seen[-1].code == 4
    assert_never_shown(seen)


def assert_never_shown(seen: list[Ended]) -> None:
    for ended in seen:
        for secret in (PASSWORD, quote(PASSWORD, safe="")):
            assert secret not in ended.out + ended.err


@pytest.mark.parametrize("where", [0, 1], ids=["in its place", "among the options"])
@pytest.mark.parametrize("printed", [(), ("--json",)], ids=["text", "JSON"])
def test_status_shows_both_urls_without_their_passwords(stores: Stores, where: int, printed: tuple[str, ...]) -> None:
    urls = [with_password(url)[where] for url in (stores.source_url, stores.mirror_url)]
    ended = relay_at(stores.folder, "--assistant-db", urls[0], "--gateway", urls[1], "status", *printed, COLUMNS="500")
    assert ended.code == 0
    assert all(str(make_url(url).database) in ended.out for url in urls)
    assert_never_shown([ended])
