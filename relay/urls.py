"""A database's URL: checked, shown, and opened; trouble with what it names is an error in words."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from sqlalchemy import URL, Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from outbox import DatabaseMissingError, InvalidMessageError, open_engine
from outbox.database.files import place_of
from outbox.database.postgresql import DRIVER
from outbox.database.sqlite import sqlite_path
from outbox.database.store_name import name_store, store_of
from outbox.redact import reason_of
from relay.errors import UnreachableError, UsageError


def open_existing(url: str, option: str) -> Engine:
    check_url(url, option)
    return name_store(open_engine(url, create=False, relay=True), store_at(url, option))


def store_at(url: str, option: str) -> str:
    """The store that ``option`` names, as errors name it."""
    return assistants(url) if option == "--assistant-db" else gateways(url)


def assistants(url: str) -> str:
    """The assistant's database as errors name it."""
    return f"the assistant's database {shown(url)}"


def gateways(url: str) -> str:
    return f"the gateway's database {shown(url)}"


def check_url(url: str, option: str) -> None:
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
    parsed = make_url(url)
    options = parsed.query.keys() - {"host", "port"}
    return parsed.difference_update_query(options).render_as_string(hide_password=True)


def shown_whole(url: str) -> str:
    """`shown`, a file by its whole path."""
    fit = shown(url)
    if make_url(fit).get_backend_name() != "sqlite":
        return fit
    place = place_of(make_url(fit))
    return fit if place is None else f"sqlite:///{place.path}"


def where_is(engine: Engine) -> str:
    """Its file, links resolved, or its URL."""
    path = sqlite_path(engine)
    return shown(engine.url.render_as_string(hide_password=False)) if path is None else str(path)


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
