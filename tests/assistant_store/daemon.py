"""The daemon's database as it was before this project: its own table of section 6, with rows, and no index."""

from collections.abc import Sequence

from tests.gateway_store.catalogue import backend_of, insert, query, run
from tests.gateway_store.catalogue import definitions as definitions_in

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


_EVERY_VALUE = {
    "sqlite": f"SELECT rowid, {', '.join(f'typeof({name}), quote({name})' for name in DEFINITIONS)} FROM {TABLE}",
    "postgresql": f"SELECT ctid::text, xmin::text, t.* FROM {TABLE} AS t",
}


def definitions(backend: str) -> dict[str, str]:
    """Column to its definition, as the daemon would write it for that database; a copy to change."""
    instant = "INTEGER" if backend == "sqlite" else "BIGINT"
    return {
        name: kind.replace("INTEGER", instant) if name.endswith("_at") else kind for name, kind in DEFINITIONS.items()
    }


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


def make_daemon_database(url: str, columns: dict[str, str], rows: Sequence[dict[str, object]] = ()) -> None:
    """Made by the plain driver, SQLite's in the old journal mode, with the daemon's comments and spelling."""
    text = ",\n  ".join(f"{name}   {kind}" for name, kind in columns.items())
    run(url, f"CREATE TABLE {TABLE} ( -- the daemon's own\n  {text}\n)")
    for row in rows:
        insert(url, TABLE, list(row), [list(row.values())])


def as_stored(url: str) -> tuple[object, object]:
    """All definitions that name the daemon's table, and its rows, byte for byte and where they lie."""
    named = [one for one in definitions_in(url) if TABLE in f"{one[1]} {one[-1]}"]
    return named, query(url, _EVERY_VALUE[backend_of(url)])
