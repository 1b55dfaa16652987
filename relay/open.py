"""Opening the two sides from their URLs, for a worker or a command; what is missing is an error in words."""

from contextlib import suppress

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from outbox import DatabaseMissingError, Destination, reading, statements
from outbox.database.encoding import storage_warning
from outbox.database.untouched import reading_untouched, untouched
from relay.destinations.port import Port
from relay.destinations.schemes import kind_of
from relay.disk import disk_warnings
from relay.errors import UnreachableError
from relay.missing import missing_mirror, nothing_of_the_source
from relay.settings import Settings
from relay.stores import Found, examine, opened
from relay.topics import MIRROR, SOURCE
from relay.urls import assistants, gateways, open_existing, reaching


def open_gateway(settings: Settings) -> Port:
    """The gateway of the settings, unasked: it may well be unreachable now."""
    kind = kind_of(settings.gateway)
    kind.check(settings.gateway, "--gateway")
    return kind.open(settings.gateway, settings.gateway_timeout.total_seconds())


def answers_within(settings: Settings) -> float:
    """The most seconds for which one call of that gateway can be awaited: what takes longer hangs."""
    return kind_of(settings.gateway).answers_within(settings.gateway, settings.gateway_timeout.total_seconds())


def open_source(settings: Settings) -> Engine:
    """The daemon's database, with all that this release needs there; `UnreachableError` says what to do if not."""
    found = examine(settings.assistant_db, SOURCE)
    if found.nothing is not None:
        words = nothing_of_the_source(found, settings.gateway)
        raise _not_there(found, assistants(settings.assistant_db), words)
    return opened(found, settings.assistant_db)


def open_mirror(settings: Settings, source: Engine) -> Engine:
    """The gateway's database, for reading its rows; a socket serves none, so it must be named by its file.

    The outbox of ``source`` may remember which one is missing. One that another program owns is read without a touch.
    """
    if not kind_of(settings.gateway).shows_rows:
        raise UnreachableError(
            f"{settings.gateway} takes invites but shows none; name the gateway's database, --gateway sqlite:///PATH"
        )
    found = examine(settings.gateway, MIRROR)
    if found.nothing is not None:
        with reading(source) as connection:
            into = statements.drained_into(connection, Destination.GATEWAY)
        words = found.never_made if into is None else missing_mirror(found.nothing, into)
        raise _not_there(found, gateways(settings.gateway), words)
    if found.can_be_compared:
        with reaching(gateways(settings.gateway)):
            return untouched(open_existing(settings.gateway, MIRROR.option))
    return opened(found, settings.gateway)


def open_mirror_to_write(settings: Settings, source: Engine) -> Engine:
    """`open_mirror` for changing rows: one that another program owns is refused, with what to do."""
    open_mirror(settings, source).dispose()
    return opened(examine(settings.gateway, MIRROR), settings.gateway)


def _not_there(found: Found, name: str, words: str) -> UnreachableError:
    return UnreachableError(words if words == found.in_words else f"{name} cannot be reached: {words}")


def storage_warnings(settings: Settings) -> list[str]:
    """What either database, or its disk, cannot keep, with the cure; nothing of one that cannot be asked now."""
    found = []
    urls = {settings.assistant_db: "--assistant-db"}
    if kind_of(settings.gateway).is_database:
        urls[settings.gateway] = "--gateway"
    for url, option in urls.items():
        engine = open_existing(url, option)
        with suppress(DBAPIError, DatabaseMissingError), reading_untouched(engine) as connection:
            found.append(storage_warning(connection))
        engine.dispose()
    return [*disk_warnings(urls), *(warning for warning in found if warning is not None)]
