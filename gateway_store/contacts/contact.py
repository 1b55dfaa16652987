"""The gateway's contacts, to which every invite refers."""

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, text
from sqlalchemy.orm import Session

from gateway_store.invites.invite import INVITES
from outbox.clock import now_ms
from outbox.database.rows import ForKeys
from outbox.enqueue import connection_to_write

_UPSERT = text(
    """
    INSERT INTO contacts (id, display_name, role, principal_id, created_at, updated_at)
    VALUES (:id, :display_name, :role, :principal_id, :now, :now)
    ON CONFLICT (id) DO UPDATE
    SET display_name = excluded.display_name, role = excluded.role, principal_id = excluded.principal_id,
        updated_at = excluded.updated_at
    RETURNING id, display_name, role, principal_id, created_at, updated_at
    """
)
_KNOWN = ForKeys("SELECT id FROM contacts WHERE id {among}")
_TO_REFER = ForKeys("SELECT id FROM contacts WHERE id {among} ORDER BY id {lock}", lock="FOR KEY SHARE")


@dataclass(frozen=True, slots=True)
class Contact:
    """One row of ``contacts``; instants are epoch ms."""

    id: str
    display_name: str
    role: str
    principal_id: str | None
    created_at: int
    updated_at: int


def upsert_contact(
    session: Session,
    *,
    id: str,  # noqa: A002 - a public name
    display_name: str,
    role: str = "contact",
    principal_id: str | None = None,
) -> Contact:
    """Adds the contact or brings its name, role and principal up to date, in the session's transaction.

    Raises `ValueError` for text that PostgreSQL could not store.
    """
    for given in (id, display_name, role, principal_id or ""):
        if "\x00" in given:
            raise ValueError("a contact's text must not contain a NUL character")
    values = {"id": id, "display_name": display_name, "role": role, "principal_id": principal_id, "now": now_ms()}
    # The invites' connection: they refer to contacts, so both are in one database.
    row = connection_to_write(session, INVITES).execute(_UPSERT, values).one()
    return Contact(*row)


def known_contacts(connection: Connection, ids: Iterable[str]) -> set[str]:
    """Those of ``ids`` that are contacts here."""
    return {row.id for row in _KNOWN.run(connection, ids)}


def contacts_to_refer(connection: Connection, ids: Iterable[str]) -> set[str]:
    """Those of ``ids`` that are contacts here, and stay so until the transaction ends."""
    return {row.id for row in _TO_REFER.run(connection, ids)}
