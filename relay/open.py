"""Opening the two sides from their URLs, for a worker or a command; what is missing is an error in words."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from sqlalchemy import Engine, inspect, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from outbox import DatabaseMissingError, SchemaRefusedError, open_engine, reading
from outbox.redact import redact_reason
from relay.embedded import EmbeddedGateway
from relay.errors import UnreachableError, UsageError
from relay.gateway import Gateway
from relay.settings import Settings
from relay.topics import APPLIERS, upgrade_mirror, upgrade_source

UPGRADE_PATIENCE_SECONDS = 60.0


def open_gateway(settings: Settings) -> Gateway:
    """The gateway of the settings, unasked: it may well be unreachable now."""
    check_url(settings.gateway, "--gateway")
    return EmbeddedGateway(settings.gateway, APPLIERS, settings.gateway_timeout / timedelta(seconds=1))


def open_source(settings: Settings) -> Engine:
    """The daemon's database, which must exist and hold the outbox; `UnreachableError` says what to do if not."""
    engine = open_existing(settings.assistant_db, "--assistant-db")
    with reaching("the assistant's database"), reading(engine) as connection:
        if not inspect(connection).has_table("outbox_messages"):
            raise UnreachableError(f"{settings.assistant_db} has no outbox yet; run `relay init`")
    return engine


def open_existing(url: str, option: str) -> Engine:
    check_url(url, option)
    return open_engine(url, create=False)


def check_url(url: str, option: str) -> None:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise UsageError(f"{option} must be a database URL such as sqlite:///gateway.db") from None
    if parsed.drivername not in ("sqlite", "sqlite+pysqlite"):
        raise UsageError(f"{option}: cannot open a {parsed.drivername} database; use sqlite:///PATH")
    named = parsed.database
    if not named or named == ":memory:" or named.startswith("file:") or parsed.host or parsed.query:
        raise UsageError(f"{option} must name a database file, sqlite:///PATH: two processes share it")


@contextmanager
def reaching(what: str) -> Iterator[None]:
    """Turns a database's trouble into `UnreachableError`."""
    try:
        yield
    except DatabaseMissingError as error:
        raise UnreachableError(f"{what} cannot be reached: {error}") from error
    except DBAPIError as error:
        raise UnreachableError(f"{what} cannot be read: {redact_reason(str(error.orig))}") from error


def init_stores(settings: Settings) -> None:
    """Creates or upgrades both stores; `UnreachableError` names the one that cannot be."""
    check_url(settings.assistant_db, "--assistant-db")
    check_url(settings.gateway, "--gateway")
    for name, url, upgrade in (
        ("the assistant's database", settings.assistant_db, upgrade_source),
        ("the gateway's database", settings.gateway, upgrade_mirror),
    ):
        # Another process may be at it, and copy a large table.
        engine = open_engine(url, busy_timeout=UPGRADE_PATIENCE_SECONDS)
        try:
            with reaching(name):
                upgrade(engine)
        except SchemaRefusedError as error:
            raise UnreachableError(f"{name} cannot be upgraded: {error}") from error
        finally:
            engine.dispose()
