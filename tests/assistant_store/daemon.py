"""The daemon's database as it was before this project: its own table of section 6, with rows, and no index."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path

TABLE = "assistant_ingress_invites"


# Written out, not taken from the product: a column that it misnames must not pass.
DEFINITIONS = {
    "id": "TEXT PRIMARY KEY",
    "source_channel": "TEXT NOT NULL",
    "token_hash": "TEXT NOT NULL",
    "source_conversation_id": "TEXT",
    "note": "TEXT",
    "max_uses": "INTEGER NOT NULL",
    "use_count": "INTEGER NOT NULL",
    "expires_at": "INTEGER NOT NULL",
    "status": "TEXT NOT NULL",
    "redeemed_by_external_user_id": "TEXT",
    "redeemed_by_external_chat_id": "TEXT",
    "redeemed_at": "INTEGER",
    "expected_external_user_id": "TEXT",
    "voice_code_hash": "TEXT",
    "voice_code_digits": "INTEGER",
    "invite_code_hash": "TEXT",
    "friend_name": "TEXT",
    "guardian_name": "TEXT",
    "contact_id": "TEXT NOT NULL",
    "created_at": "INTEGER NOT NULL",
    "updated_at": "INTEGER NOT NULL",
}


def definitions() -> dict[str, str]:
    """Column to its definition, as the daemon wrote it; a copy to change."""
    return dict(DEFINITIONS)


def invite_row(number: int) -> dict[str, object]:
    row: dict[str, object] = dict.fromkeys(DEFINITIONS)
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
