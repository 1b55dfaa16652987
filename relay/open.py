"""Opening the two sides from their URLs, for a worker or a command; what is missing is an error in words."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path

from sqlalchemy import URL, Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from gateway_store.listening import MAX_PATH_BYTES
from outbox import DatabaseMissingError, InvalidMessageError, SchemaRefusedError, open_engine, reading
from outbox.encoding import storage_warning
from outbox.files import place_of
from outbox.migrate import schema_problem
from outbox.postgresql import DRIVER, LONGEST_SECONDS
from outbox.redact import reason_of
from outbox.store_name import name_store, store_of
from relay.disk import disk_warnings
from relay.embedded import EmbeddedGateway
from relay.errors import UnreachableError, UsageError
from relay.gateway import Gateway
from relay.settings import Settings
from relay.socket_connection import CONNECT_SECONDS
from relay.socket_gateway import DELIVERY_SECONDS, SocketGateway
from relay.topics import APPLIERS, INVITES, upgrade_mirror, upgrade_source

UNIX = "unix://"
SOCKETS_FORM = "a socket is written unix:///absolute/path.sock"
UPGRADE_PATIENCE_SECONDS = 60.0
# A batch takes a small part of it, once it has the lock.
SQLITE_WORK_SECONDS = 5.0


def open_gateway(settings: Settings) -> Gateway:
    """The gateway of the settings, unasked: it may well be unreachable now."""
    if settings.gateway.startswith(UNIX):
        return SocketGateway(socket_path(settings.gateway, "--gateway"), INVITES.name)
    check_url(settings.gateway, "--gateway")
    patience = settings.gateway_timeout / timedelta(seconds=1)
    return EmbeddedGateway(settings.gateway, APPLIERS, patience, name=gateways(settings.gateway))


def answers_within(settings: Settings) -> float:
    """The most seconds for which one call of that gateway can be awaited: what takes longer hangs."""
    if settings.gateway.startswith(UNIX):
        return CONNECT_SECONDS + DELIVERY_SECONDS
    at_work = LONGEST_SECONDS if settings.gateway.startswith(DRIVER) else SQLITE_WORK_SECONDS
    return settings.gateway_timeout.total_seconds() + at_work


def open_source(settings: Settings) -> Engine:
    """The daemon's database, which must exist and hold the outbox; `UnreachableError` says what to do if not."""
    engine = open_existing(settings.assistant_db, "--assistant-db")
    with reaching(assistants(settings.assistant_db)), reading(engine) as connection:
        problem = schema_problem(connection)
        if problem is not None:
            raise UnreachableError(f"{assistants(settings.assistant_db)} {problem}")
    return engine


def open_mirror(settings: Settings) -> Engine:
    """The gateway's database, for reading its rows; a socket serves none, so it must be named by its file."""
    if settings.gateway.startswith(UNIX):
        raise UnreachableError(
            f"{settings.gateway} takes invites but shows none; name the gateway's database, --gateway sqlite:///PATH"
        )
    return open_existing(settings.gateway, "--gateway")


def open_existing(url: str, option: str) -> Engine:
    check_url(url, option)
    name = assistants(url) if option == "--assistant-db" else gateways(url)
    return name_store(open_engine(url, create=False, relay=True), name)


def assistants(url: str) -> str:
    """The assistant's database as errors name it."""
    return f"the assistant's database {shown(url)}"


def gateways(url: str) -> str:
    return f"the gateway's database {shown(url)}"


def socket_path(url: str, option: str) -> Path:
    path = Path(url.removeprefix(UNIX))
    if not url.startswith(UNIX) or not path.is_absolute() or len(path.parts) < 2:
        raise UsageError(f"{option}: {SOCKETS_FORM}")
    if len(os.fsencode(path)) > MAX_PATH_BYTES:
        raise UsageError(f"{option}: a socket's path may have {MAX_PATH_BYTES} bytes, {path} has more")
    return path


def check_url(url: str, option: str) -> None:
    if option == "--gateway" and _means_a_socket(url):
        raise UsageError(f"{option}: {SOCKETS_FORM}")
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        example = "assistant.db" if option == "--assistant-db" else "gateway.db"
        raise UsageError(f"{option} must be a database URL such as sqlite:///{example}") from None
    if parsed.drivername == DRIVER:
        _check_postgresql(parsed, option)
        return
    if parsed.drivername not in ("sqlite", "sqlite+pysqlite"):
        raise UsageError(f"{option}: cannot open a {parsed.drivername} database; use sqlite:///PATH or {DRIVER}://...")
    named = parsed.database
    if not named or named == ":memory:" or named.startswith("file:") or parsed.host or parsed.query:
        raise UsageError(f"{option} must name a database file, sqlite:///PATH: two processes share it")


def _means_a_socket(url: str) -> bool:
    scheme, colon, _ = url.partition(":")
    return scheme.lower() == "unix" if colon else url.endswith(".sock")


def _check_postgresql(url: URL, option: str) -> None:
    if not url.database:
        raise UsageError(f"{option} must name a database, {DRIVER}://HOST/NAME")
    if find_spec("psycopg") is None:
        raise UsageError(f"{option}: PostgreSQL needs its driver; pip install 'invite-relay[postgres]'")
    try:
        url.get_dialect()().create_connect_args(url)
    except ArgumentError as error:
        raise UsageError(f"{option}: {error}") from None


def shown(url: str) -> str:
    """A URL fit to be printed: without its password, which may stand among the driver's options as well."""
    if url.startswith(UNIX):
        return url
    parsed = make_url(url)
    options = parsed.query.keys() - {"host", "port"}
    return parsed.difference_update_query(options).render_as_string(hide_password=True)


def shown_whole(url: str) -> str:
    """`shown`, a file by its whole path: a relative one says nothing of which file it was."""
    fit = shown(url)
    if url.startswith(UNIX) or make_url(fit).get_backend_name() != "sqlite":
        return fit
    place = place_of(make_url(fit))
    return fit if place is None else f"sqlite:///{place.path}"


@contextmanager
def reaching(what: str) -> Iterator[None]:
    """Turns a database's trouble into `UnreachableError`, which names the store: ``what``, unless the error knows."""
    try:
        yield
    except DatabaseMissingError as error:
        raise UnreachableError(f"{store_of(error) or what} cannot be reached: {error}") from error
    except DBAPIError as error:
        raise UnreachableError(f"{store_of(error) or what} cannot be read: {reason_of(error)}") from error
    except InvalidMessageError as error:
        raise UnreachableError(f"{store_of(error) or what} has a row that no message can hold: {error}") from error


def storage_warnings(settings: Settings) -> list[str]:
    """What either database, or its disk, cannot keep, with the cure; nothing of one that cannot be asked now."""
    found = []
    urls = {settings.assistant_db: "--assistant-db", settings.gateway: "--gateway"}
    urls = {url: option for url, option in urls.items() if not url.startswith(UNIX)}
    for url, option in urls.items():
        engine = open_existing(url, option)
        with suppress(DBAPIError, DatabaseMissingError), reading(engine) as connection:
            found.append(storage_warning(connection))
        engine.dispose()
    return [*disk_warnings(urls), *(warning for warning in found if warning is not None)]


def init_stores(settings: Settings) -> list[str]:
    """Creates or upgrades both stores, and returns what is wrong with those that were there, in words with a cure.

    `UnreachableError` names the one that cannot be upgraded.
    """
    warnings: list[str] = []
    check_url(settings.assistant_db, "--assistant-db")
    stores = [(assistants(settings.assistant_db), settings.assistant_db, upgrade_source)]
    if settings.gateway.startswith(UNIX):
        # Its server keeps its own store up to date.
        socket_path(settings.gateway, "--gateway")
    else:
        check_url(settings.gateway, "--gateway")
        stores.append((gateways(settings.gateway), settings.gateway, upgrade_mirror))
    for name, url, upgrade in stores:
        # Another process may be at it, and copy a large table.
        engine = open_engine(url, busy_timeout=UPGRADE_PATIENCE_SECONDS)
        try:
            with reaching(name):
                upgrade(engine)
                with reading(engine) as connection:
                    warning = storage_warning(connection)
            warnings += [warning] if warning else []
        except SchemaRefusedError as error:
            raise UnreachableError(f"{name} cannot be upgraded: {error}") from error
        finally:
            engine.dispose()
    return warnings
