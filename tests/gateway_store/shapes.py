"""Databases as versions before the mirror left them, made with the plain driver of their kind."""

from collections.abc import Iterable
from typing import Any

import gateway_store
from outbox import open_engine
from tests.gateway_store.catalogue import backend_of, insert, query, run

# {instant} is an integer wide enough for one: on PostgreSQL INTEGER has four bytes.
CONTACTS = """
    CREATE TABLE contacts (id TEXT PRIMARY KEY NOT NULL, display_name TEXT NOT NULL, role TEXT NOT NULL
    DEFAULT 'contact', principal_id TEXT, created_at {instant} NOT NULL, updated_at {instant} NOT NULL, colour TEXT);
    INSERT INTO contacts VALUES ('co-1', 'Ada', 'contact', NULL, 1, 1, 'red'),
    ('co-2', 'Grace', 'guardian', 'p', 2, 2, NULL);
"""
INDEXES = """
    CREATE INDEX idx_ingress_invites_code_lookup ON ingress_invites (invite_code_hash, source_channel);
    CREATE INDEX idx_ingress_invites_contact ON ingress_invites (contact_id);
"""
OLD_COLUMNS = (
    "id",
    "source_channel",
    "invite_code_hash",
    "note",
    "max_uses",
    "use_count",
    "expires_at",
    "status",
    "redeemed_by_external_user_id",
    "redeemed_by_external_chat_id",
    "redeemed_at",
    "contact_id",
    "created_at",
    "updated_at",
)
ADDED_COLUMNS = (
    "token_hash",
    "source_conversation_id",
    "expected_external_user_id",
    "voice_code_hash",
    "voice_code_digits",
    "friend_name",
    "guardian_name",
)
_OLD_TABLE = """
    CREATE TABLE ingress_invites (
        id TEXT PRIMARY KEY NOT NULL, source_channel TEXT NOT NULL, invite_code_hash TEXT NOT NULL, note TEXT,
        max_uses INTEGER NOT NULL DEFAULT 1, use_count INTEGER NOT NULL DEFAULT 0, expires_at {instant} NOT NULL,
        status TEXT NOT NULL DEFAULT 'active', redeemed_by_external_user_id TEXT, redeemed_by_external_chat_id TEXT,
        redeemed_at {instant}, contact_id TEXT NOT NULL REFERENCES contacts (id) ON DELETE CASCADE,
        created_at {instant} NOT NULL, updated_at {instant} NOT NULL);
"""
_ADDED = (
    "token_hash TEXT, source_conversation_id TEXT, expected_external_user_id TEXT, voice_code_hash TEXT, "
    "voice_code_digits INTEGER, friend_name TEXT, guardian_name TEXT,"
)
_EVERY_COLUMN = _OLD_TABLE.replace("note TEXT,", f"note TEXT, {_ADDED}", 1)
SHAPES = {
    "fresh": "",
    "contacts only": CONTACTS,
    "old": CONTACTS + _OLD_TABLE + INDEXES,
    "all columns, code NOT NULL": CONTACTS + _EVERY_COLUMN + INDEXES,
    "all columns": CONTACTS
    + _EVERY_COLUMN.replace("invite_code_hash TEXT NOT NULL", "invite_code_hash TEXT")
    + INDEXES,
}
CHILD = """
    CREATE TABLE uses (id INTEGER PRIMARY KEY, invite TEXT REFERENCES ingress_invites (id) ON DELETE CASCADE);
    INSERT INTO uses VALUES (1, 'inv-000000'), (2, 'inv-000001'), (3, 'inv-000001');
"""
WITH_INVITES = [name for name in SHAPES if name not in ("fresh", "contacts only")]


def script(backend: str, text: str) -> str:
    return text.replace("{instant}", "INTEGER" if backend == "sqlite" else "BIGINT")


def make(url: str, shape: str, *more: str, invites: int = 0) -> None:
    """A new database of that shape with so many invites, then ``more`` statements; foreign keys are not enforced."""
    run(url, script(backend_of(url), SHAPES[shape]))
    if invites:
        names = OLD_COLUMNS if shape == "old" else OLD_COLUMNS + ADDED_COLUMNS
        insert(url, "ingress_invites", names, [_values(number)[: len(names)] for number in range(invites)])
    run(url, *more)


def upgrade(url: str) -> None:
    engine = open_engine(url)
    try:
        gateway_store.upgrade(engine)
    finally:
        engine.dispose()


def invites_in(url: str, names: Iterable[str]) -> list[tuple[Any, ...]]:
    return query(url, f"SELECT {', '.join(names)} FROM ingress_invites ORDER BY id")


def adopted(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Rows, in the order of `OLD_COLUMNS` and what follows, as the upgrade must keep them: '' as a code means none."""
    code = OLD_COLUMNS.index("invite_code_hash")
    return [(*row[:code], row[code] or None, *row[code + 1 :]) for row in rows]


def _values(number: int) -> tuple[Any, ...]:
    """An invite of its own for each number: all statuses, voice and code ones, some of them with no code ('')."""
    status = ("active", "expired", "revoked", "redeemed")[number % 4]
    used = number % 4 == 3
    code = "" if number % 3 == 2 else f"{number:064x}"
    note = None if number % 2 else f"note {number} 🌍"
    old = (f"inv-{number:06}", "telegram", code, note, 3, int(used), 10**12 + number, status)
    redemption = (f"u{number}", "chat", 10**12) if used else (None, None, None)
    voice = ("+4915112345678", f"{number + 1:064x}", 6, "Grace", "Zoë") if number % 3 == 2 else (None,) * 5
    return (*old, *redemption, f"co-{number % 2 + 1}", number, number + 1, f"{number + 2:064x}", "conv", *voice)
