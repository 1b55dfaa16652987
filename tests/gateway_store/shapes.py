"""Databases as versions before the mirror left them, made and looked at with plain ``sqlite3``.

Nothing here may be called while an engine has the file open: two SQLite libraries in one process drop each other's
locks.
"""

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import gateway_store
from outbox import open_engine

Content = dict[str, list[tuple[Any, ...]]]

CONTACTS = """
    CREATE TABLE contacts (id TEXT PRIMARY KEY NOT NULL, display_name TEXT NOT NULL, role TEXT NOT NULL
    DEFAULT 'contact', principal_id TEXT, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL, colour TEXT);
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
        max_uses INTEGER NOT NULL DEFAULT 1, use_count INTEGER NOT NULL DEFAULT 0, expires_at INTEGER NOT NULL,
        status TEXT NOT NULL DEFAULT 'active', redeemed_by_external_user_id TEXT, redeemed_by_external_chat_id TEXT,
        redeemed_at INTEGER, contact_id TEXT NOT NULL REFERENCES contacts (id) ON DELETE CASCADE,
        created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL);
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
WITH_INVITES = [name for name in SHAPES if name not in ("fresh", "contacts only")]


def make(path: Path, shape: str, *more: str, invites: int = 0) -> None:
    """A new file of that shape with so many invites, then ``more`` statements; foreign keys are not enforced."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(SHAPES[shape])
        if invites:
            names = OLD_COLUMNS if shape == "old" else OLD_COLUMNS + ADDED_COLUMNS
            places = ", ".join("?" * len(names))
            statement = f"INSERT INTO ingress_invites ({', '.join(names)}) VALUES ({places})"
            connection.executemany(statement, (_values(number)[: len(names)] for number in range(invites)))
        for statements in more:
            connection.executescript(statements)
        connection.commit()


def upgrade(path: Path) -> None:
    engine = open_engine(f"sqlite:///{path}")
    try:
        gateway_store.upgrade(engine)
    finally:
        engine.dispose()


def query(path: Path, statement: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(statement).fetchall()


def content(path: Path) -> Content:
    """The whole catalogue and every row of every table."""
    tables = [name for (name,) in query(path, "SELECT name FROM sqlite_master WHERE type = 'table'")]
    catalogue = query(path, "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name")
    return {"catalogue": catalogue} | {name: query(path, f'SELECT * FROM "{name}" ORDER BY rowid') for name in tables}


def invites_in(path: Path, names: Iterable[str]) -> list[tuple[Any, ...]]:
    return query(path, f"SELECT {', '.join(names)} FROM ingress_invites ORDER BY id")


def adopted(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Rows, in the order of `OLD_COLUMNS` and what follows, as the upgrade must keep them: '' as a code means none."""
    code = OLD_COLUMNS.index("invite_code_hash")
    return [(*row[:code], row[code] or None, *row[code + 1 :]) for row in rows]


def schema(path: Path) -> dict[str, Any]:
    """All that SQLite knows of ``ingress_invites``: columns, foreign keys, and its indexes with their columns."""
    indexes = sorted(row[1:] for row in query(path, "PRAGMA index_list(ingress_invites)"))
    return {
        "columns": query(path, "PRAGMA table_info(ingress_invites)"),
        "foreign keys": query(path, "PRAGMA foreign_key_list(ingress_invites)"),
        "indexes": [(index, query(path, f'PRAGMA index_info("{index[0]}")')) for index in indexes],
    }


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
