"""Creating or upgrading both stores: after a look at both, so that what must not be touched keeps both as they are."""

from collections.abc import Callable, Iterator
from functools import partial

from sqlalchemy import Engine

from outbox import SchemaRefusedError, open_engine, reading
from outbox.database.encoding import storage_warning
from relay.destinations.port import GatewayUnreachableError
from relay.destinations.schemes import kind_of
from relay.errors import UnreachableError
from relay.missing import JOIN, missing_mirror, missing_source, was_at
from relay.open import open_gateway
from relay.settings import Settings
from relay.stores import Found, examine
from relay.topics import MIRROR, SOURCE, upgrade_mirror, upgrade_source
from relay.urls import reaching, store_at

UPGRADE_PATIENCE_SECONDS = 60.0
NEVER_AGAIN = "the gateway's database is taken over; never start the other program on it again"


def init_stores(settings: Settings, *, take_over: bool = False, new_gateway: bool = False) -> list[str]:
    """Creates or upgrades both stores, and returns what their owner must know, in words with a cure.

    ``take_over`` takes the gateway's database from the real gateway, ``new_gateway`` makes an empty store where one is
    remembered. `UnreachableError` names the one that cannot be upgraded.
    """
    source = examine(settings.assistant_db, SOURCE)
    kind = kind_of(settings.gateway)
    kind.check(settings.gateway, MIRROR.option)
    # What is no database is kept up to date by the program that serves it.
    mirror = examine(settings.gateway, MIRROR) if kind.is_database else None
    warnings = list(_look_at(source, mirror, settings, take_over, new_gateway))
    warnings += upgrade_store(source, settings.assistant_db, upgrade_source)
    if mirror is not None:
        warnings += upgrade_store(mirror, settings.gateway, partial(upgrade_mirror, take_over=take_over))
    return warnings


def see_served(settings: Settings) -> None:
    """Raises `UnreachableError` unless the gateway answers."""
    gateway = open_gateway(settings)
    try:
        gateway.probe()
    except GatewayUnreachableError as error:
        raise UnreachableError(
            f"{SOURCE.name} is ready, and the gateway is not: {error}; start what serves {settings.gateway}, "
            "then run this again"
        ) from error
    finally:
        gateway.close()


def refuse_others(found: Found, *, take_over: bool = False) -> None:
    """Raises `UnreachableError` where a database is the other side's store, or another program's."""
    if found.is_the_other or (found.is_owned and not take_over):
        raise UnreachableError(f"{found.in_words}. Nothing was changed")


def upgrade_store(found: Found, url: str, upgrade: Callable[[Engine], None]) -> list[str]:
    # Another process may be at it, and copy a large table.
    engine = open_engine(url, busy_timeout=UPGRADE_PATIENCE_SECONDS)
    name = store_at(url, found.store.option)
    try:
        with reaching(name):
            upgrade(engine)
            with reading(engine) as connection:
                warning = storage_warning(connection)
    except SchemaRefusedError as error:
        raise UnreachableError(f"{name} cannot be upgraded: {error}") from error
    finally:
        engine.dispose()
    return [warning] if warning else []


def _look_at(
    source: Found, mirror: Found | None, settings: Settings, take_over: bool, new_gateway: bool
) -> Iterator[str]:
    """Raises `UnreachableError` where nothing may be made; yields what the owner must know of what is made."""
    for found in (source, mirror):
        if found is not None:
            refuse_others(found, take_over=take_over)
            _refuse_a_log_alone(found)
    if mirror is None:
        return
    if mirror.is_owned:
        yield NEVER_AGAIN
    if source.nothing and mirror.nothing and source.where == mirror.where:
        raise UnreachableError(f"both URLs name {source.where}; each side has a database of its own")
    if source.nothing and mirror.facts is not None and mirror.facts.drained_from:
        if not new_gateway:
            raise UnreachableError(missing_source(source.nothing, mirror.facts.drained_from))
        yield f"the gateway mirrors another assistant's invites; for this one from now on: {JOIN}"
    if source.into is not None and mirror.nothing:
        if was_at(source.into, settings.gateway) and not new_gateway:
            raise UnreachableError(missing_mirror(mirror.nothing, source.into))
        yield f"the outbox drains into another gateway; into {mirror.where} from now on: {JOIN}"


def _refuse_a_log_alone(found: Found) -> None:
    # SQLite would delete it, with all that it holds, as soon as an empty database is beside it.
    if found.log_alone is not None:
        raise UnreachableError(f"{found.named}: {found.never_made}, or delete the log. Nothing was changed")
