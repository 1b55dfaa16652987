"""What a relay learns of this store before it delivers; an answer means that the store takes invites now."""

import os
from collections.abc import Callable

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import OperationalError

from gateway_store.identity import StoreFacts, store_facts
from gateway_store.invites.invite import TABLE
from gateway_store.invites.payload import SCHEMA_VERSION
from outbox.database.engine import takes_writes, writing
from outbox.database.sqlite import sqlite_path
from outbox.redact import reason_of

# Changes no row, but SQLite prepares it for writing, and refuses that where the file or its disk is read-only. BEGIN
# IMMEDIATE does not: on such a file it begins a transaction that reads.
_WRITES_NOTHING = text(f"UPDATE {TABLE} SET id = id WHERE 1 = 0")  # noqa: S608 - ours
_MAY_WRITE = text(
    f"""
    SELECT has_any_column_privilege('{TABLE}', 'INSERT') AND has_any_column_privilege('{TABLE}', 'UPDATE')
       AND has_any_column_privilege('store_identity', 'UPDATE')
       AND (has_sequence_privilege('store_batches', 'USAGE') OR has_sequence_privilege('store_batches', 'UPDATE'))
    """
)


class StoreReadOnlyError(Exception):
    """The store is there and takes no invite: a standby, a server set to read-only, a file that is another user's."""


def probe_store(engine: Engine, ask: Callable[[Connection], StoreFacts] = store_facts) -> StoreFacts:
    """`store_facts`, from inside a transaction that can write; it waits for the lock as long as a batch does.

    ``ask`` may be a `claim` instead. Raises `StoreReadOnlyError`, what ``ask`` raises, and where the database cannot
    work what `mirror_and_commit` raises. Changes nothing by itself.
    """
    try:
        with writing(engine) as connection:
            connection.exec_driver_sql(f"SELECT count(*) FROM (SELECT 1 FROM {TABLE} LIMIT 1) AS one")  # noqa: S608 - ours
            _refuse_read_only(connection)
            return ask(connection)
    except OperationalError as error:
        if "readonly database" in str(error.orig) or _is_closed_to_us(engine):
            raise StoreReadOnlyError(_why(engine, error)) from error
        raise


def _refuse_read_only(connection: Connection) -> None:
    if connection.dialect.name == "sqlite":
        connection.execute(_WRITES_NOTHING)
    elif not takes_writes(connection):
        raise StoreReadOnlyError("the gateway's database is read-only")
    elif not connection.execute(_MAY_WRITE).scalar_one():
        raise StoreReadOnlyError("the gateway's database is read-only for this role: it may not write its tables")


def _is_closed_to_us(engine: Engine) -> bool:
    """Whether its file can be read and not written. Where it cannot make a log beside that, SQLite opens nothing."""
    path = sqlite_path(engine)
    return path is not None and _may(path, os.R_OK) and not _may(path, os.W_OK)


def _may(path: os.PathLike[str], how: int) -> bool:
    return os.access(path, how, effective_ids=os.access in os.supports_effective_ids)


def _why(engine: Engine, error: OperationalError) -> str:
    path = sqlite_path(engine)
    reason = reason_of(error)
    if path is None or not _is_closed_to_us(engine):
        return reason
    found = path.stat()
    owner = f"user {found.st_uid} with mode {found.st_mode & 0o7777:04o}"
    who = f"{path} belongs to {owner}, and user {os.geteuid()} may not write it"
    return f"the gateway's database is read-only: {who} ({reason})"


def in_json(facts: StoreFacts) -> dict[str, object]:
    """As facts stand in the answer to a probe."""
    return {
        "schemaVersion": SCHEMA_VERSION,
        "identity": facts.identity,
        "drainedFrom": facts.drained_from,
        "batches": facts.batches,
    }
