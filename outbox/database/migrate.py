"""Runs a package's Alembic scripts in ONE transaction: killed at any moment, a database is as before or upgraded."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import Connection, Engine, inspect, text

from outbox.database.catalogue import read_catalogue, tables_named
from outbox.database.encoding import refuse_for_new_store
from outbox.database.engine import writing
from outbox.database.files import make_private
from outbox.database.migrations.needs import needs as needs_of_the_outbox
from outbox.database.sequence import lift_sequence
from outbox.database.shape import Needs, shape_problem
from outbox.database.sqlite import sqlite_path
from outbox.errors import SchemaRefusedError

if TYPE_CHECKING:
    from alembic.script import ScriptDirectory


class Scripts(NamedTuple):
    """A package's migrations, the table that remembers which of them were run, and the one without which there is no
    store yet."""

    folder: Path
    version_table: str
    table: str
    name: str
    """What they make, in words."""
    newest: str
    """The last of them: what this release reads and writes."""
    needs: Callable[[str], Needs]
    """What they leave, by the database's dialect."""
    adopted: tuple[str, ...] = ()
    """Of the tables that they leave, those that may have been another program's before."""


# An advisory lock's number; any will do that nobody else in the database uses.
_UPGRADING = 0x75706772616465
NEWEST = "0002"
SCRIPTS = Scripts(
    Path(__file__).parent / "migrations",
    "outbox_schema_version",
    "outbox_messages",
    "outbox",
    NEWEST,
    needs_of_the_outbox,
)


def schema_problem(connection: Connection, *parts: Scripts) -> str | None:
    """What keeps this release from using ``parts``, the outbox unless given, in a database, and the cure.

    None if nothing does: each is at its newest, and has the shape that it was given.
    """
    problems = (_problem(connection, part) for part in parts or (SCRIPTS,))
    return next((problem for problem in problems if problem is not None), None)


def is_made(connection: Connection, part: Scripts) -> bool:
    """Whether its scripts were run here, by whichever release."""
    return _version(connection, part) is not None


def _version(connection: Connection, part: Scripts) -> str | None:
    found = _noted_version(connection, part)
    return found if isinstance(found, str) else None


def _noted_version(connection: Connection, part: Scripts) -> object:
    """What its table of versions says, None where there is none; anything but text can be no script's name."""
    columns = read_catalogue(connection, [part.version_table]).columns.get(part.version_table)
    if columns is None:
        return None
    if "version_num" not in columns:
        return columns
    return connection.exec_driver_sql(f"SELECT max(version_num) FROM {part.version_table}").scalar_one()  # noqa: S608 - a constant


def _odd_version(connection: Connection, part: Scripts) -> str | None:
    found = _noted_version(connection, part)
    if found is None or isinstance(found, str):
        return None
    return f"has the table {part.version_table} that does not say of which release it is; restore it from a copy"


def _problem(connection: Connection, part: Scripts) -> str | None:
    odd = _odd_version(connection, part)
    if odd is not None:
        return odd
    found = _version(connection, part)
    needs = part.needs(connection.dialect.name)
    if found is None:
        left = tables_named(connection, needs.tables.keys() - set(part.adopted))
        if left:
            return (
                f"has {', '.join(sorted(left))}, and nothing in {part.version_table} that says of which release; "
                "restore it from a copy, or, if another program made them, rename them and run `relay init`"
            )
        return f"has no {part.name} yet; run `relay init`"
    if found < part.newest:
        return f"has the {part.name} of an earlier release; stop every relay, then run `relay init`"
    if found > part.newest:
        return f"was upgraded by a later release of this program (schema {found}); install that release"
    return shape_problem(connection, needs)


def upgrade(engine: Engine) -> None:
    """Creates or upgrades the outbox's tables; twice is harmless, two processes at once are harmless."""
    run_migrations(engine, SCRIPTS)


def run_migrations(engine: Engine, *parts: Scripts, allow: Callable[[Connection], None] = lambda _: None) -> None:
    """Brings ``engine``'s database to the newest of each of ``parts``, all of them or none.

    A lock is held from before the version is read, so a second process waits and then finds nothing to do.
    Raises what ``allow`` raises of the database as it is then, and `SchemaRefusedError` where a script refuses what it
    finds, the database was upgraded by a later release, is afterwards not as this release needs it, or a new one could
    not keep every text.
    """
    if engine.dialect.name != "sqlite":
        with writing(engine) as connection:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_UPGRADING})")
            allow(connection)
            _run_all(connection, parts)
        return
    with engine.connect() as connection:
        # A relative name may have led elsewhere until then.
        path = sqlite_path(engine)
        raw = connection.connection
        # Rebuilding a table drops the old one, and with foreign keys on a drop deletes what refers to it. The switch
        # does nothing inside a transaction, so it is made on the driver's connection before ours begins.
        cursor = raw.cursor()
        try:
            cursor.execute("PRAGMA foreign_keys=OFF")
            with connection.begin():
                allow(connection)
                _run_all(connection, parts)
        finally:
            cursor.execute("PRAGMA foreign_keys=ON")
            cursor.close()
    if path is not None:
        make_private(path)


def _run_all(connection: Connection, parts: Sequence[Scripts]) -> None:
    tables = set(inspect(connection).get_table_names())
    if not tables & {name for part in parts for name in (part.version_table, part.table)}:
        refuse_for_new_store(connection)
    for part in parts:
        odd = _odd_version(connection, part)
        if odd is not None:
            raise SchemaRefusedError(f"{connection.engine.url.database} {odd}. Nothing was changed")
        _run(connection, part)
    problem = schema_problem(connection, *parts)
    if problem is not None:
        raise SchemaRefusedError(f"{connection.engine.url.database} {problem}")
    if SCRIPTS in parts:
        # Even where all is at its newest: rows can be restored or replicated without their sequence at any time.
        lift_sequence(connection)


def _run(connection: Connection, part: Scripts) -> None:
    # Imported here: a relay upgrades nothing, and would carry it along in 10 MB.
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError

    directory = ScriptDirectory(str(part.folder))
    if _at_head(connection, directory, part.version_table):
        return
    with EnvironmentContext(
        Config(), directory, fn=lambda revision, _context: directory._upgrade_revs("head", revision)
    ) as environment:
        environment.configure(connection=connection, version_table=part.version_table)
        try:
            environment.run_migrations()
        except CommandError as error:
            raise SchemaRefusedError(
                f"{connection.engine.url.database} was upgraded by a later release of this program; "
                f"install that release or restore a copy from before ({error})"
            ) from error


def _at_head(connection: Connection, directory: "ScriptDirectory", version_table: str) -> bool:
    if not inspect(connection).has_table(version_table):
        return False
    found = connection.execute(text(f"SELECT version_num FROM {version_table}")).scalars().all()  # noqa: S608 - a constant
    return found == [directory.get_current_head()]
