"""The gateway's contacts, to which every invite refers."""

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.orm import Session

from gateway_store.invite import CONTACTS
from outbox.clock import now_ms
from outbox.rows import ForKeys

_KNOWN = ForKeys("SELECT id FROM contacts WHERE id {among}")


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
    for text in (id, display_name, role, principal_id or ""):
        if "\x00" in text:
            raise ValueError("a contact's text must not contain a NUL character")
    now = now_ms()
    added = insert(CONTACTS).values(
        id=id, display_name=display_name, role=role, principal_id=principal_id, created_at=now, updated_at=now
    )
    changed = {name: added.excluded[name] for name in ("display_name", "role", "principal_id", "updated_at")}
    row = session.execute(
        added.on_conflict_do_update(index_elements=[CONTACTS.c.id], set_=changed).returning(*CONTACTS.c)
    ).one()
    return Contact(*row)


def known_contacts(connection: Connection, ids: Iterable[str]) -> set[str]:
    """Those of ``ids`` that are contacts here."""
    return {row.id for row in _KNOWN.run(connection, ids)}
