"""The daemon's database as it was before this project: its own table of section 6, with rows, and no index."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from assistant_store.invite import COLUMNS, INTEGERS, NULLABLE

TABLE = "assistant_ingress_invites"


def definitions() -> dict[str, str]:
    """Column to its definition, as the daemon wrote it."""
    return {
        name: f"{'INTEGER' if name in INTEGERS else 'TEXT'}"
        f"{' PRIMARY KEY' if name == 'id' else '' if name in NULLABLE else ' NOT NULL'}"
        for name in COLUMNS
    }


def invite_row(number: int) -> dict[str, object]:
    row: dict[str, object] = dict.fromkeys(COLUMNS)
    return row | {
        "id": f"invite-{number}",
        "source_channel": "telegram",
        "token_hash": f"{number:064x}",
        "note": f"für {number} 😀",
        "max_uses": 2,
        "use_count": 0,
        "expires_at": 4_000_000_000_000 + number,
        "status": "active",
        "contact_id": "co-1",
        "created_at": number,
        "updated_at": number,
    }


def make_daemon_database(path: Path, columns: dict[str, str], rows: Sequence[dict[str, object]] = ()) -> None:
    """A file made by Python's own SQLite, in the old journal mode, with the daemon's comments and spelling."""
    connection = sqlite3.connect(path)
    text = ",\n  ".join(f"{name}   {kind}" for name, kind in columns.items())
    connection.execute(f"CREATE TABLE {TABLE} ( -- the daemon's own\n  {text}\n)")
    for row in rows:
        names = ", ".join(row)
        connection.execute(f"INSERT INTO {TABLE} ({names}) VALUES ({', '.join(f':{name}' for name in row)})", row)
    connection.commit()
    connection.close()
