"""The outbox's tables as the second script leaves them, and the rules that their rows keep.

A rule is one expression on both databases. What can be no honest value is refused where it is written, so that no
reader has to bear it: a number beyond what JSON or an ``int4`` can say, an empty key, a text with a NUL, at which
SQLite's ``length`` and every C program would stop.
"""

from sqlalchemy import Connection

MESSAGES = "outbox_messages"
NEW_MESSAGES = f"{MESSAGES}_new"
LARGEST_INTEGER = 2**53 - 1
LARGEST_COUNT = 2**31 - 1
# From the year 1 to the end of 9999: what a date can show.
FIRST_INSTANT = -62_135_596_800_000
LAST_INSTANT = 253_402_300_799_999
LONGEST_LEASE_MS = 60_000
MAX_TOPIC_BYTES = 1_024
# A text of 16,384 characters, the longest that the assistant's store takes in a field.
MAX_KEY_BYTES = 65_536
MAX_PAYLOAD_BYTES = 16 * 2**20
MAX_ERROR_BYTES = 8_000

# What the two databases say differently. SQLite: without AUTOINCREMENT a deleted seq comes back.
SQLITE = {"integer": "INTEGER", "small": "STRICT"}
POSTGRESQL = {
    "integer": "BIGINT",
    "small": "WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500, fillfactor = 50)",
}


def words(connection: Connection) -> dict[str, str]:
    return SQLITE if connection.dialect.name == "sqlite" else POSTGRESQL


def rules(connection: Connection) -> dict[str, str]:
    """By name, what holds of each row of ``outbox_messages``; a rule that comes out as NULL is kept."""
    number = f"BETWEEN -{LARGEST_INTEGER} AND {LARGEST_INTEGER}"
    count = f"BETWEEN 0 AND {LARGEST_COUNT}"
    return {
        "seq": f"seq BETWEEN 1 AND {LARGEST_INTEGER}",
        "topic": text_within(connection, "topic", 1, MAX_TOPIC_BYTES),
        "key": text_within(connection, "key", 1, MAX_KEY_BYTES),
        "version": f"version {number}",
        "payload": text_within(connection, "payload", 0, MAX_PAYLOAD_BYTES),
        "enqueued_at": f"enqueued_at {number}",
        "attempts": f"attempts {count}",
        "available_at": f"available_at {number}",
        "last_error": text_within(connection, "last_error", 0, MAX_ERROR_BYTES),
        "settled_at": f"settled_at {number}",
    }


def rules_of_new_columns() -> dict[str, str]:
    return {
        "destination": "destination IN ('gateway', 'assistant')",
        "refused_for_ms": f"refused_for_ms BETWEEN 0 AND {LARGEST_INTEGER}",
        "refused_at": f"refused_at BETWEEN -{LARGEST_INTEGER} AND {LARGEST_INTEGER}",
        "crashes": f"crashes BETWEEN 0 AND {LARGEST_COUNT}",
    }


def text_within(connection: Connection, column: str, least: int, most: int) -> str:
    """In bytes. ``octet_length`` is as young as SQLite 3.43; PostgreSQL stores no NUL."""
    if connection.dialect.name == "sqlite":
        return f"length(CAST({column} AS BLOB)) BETWEEN {least} AND {most} AND instr({column}, char(0)) = 0"
    return f"octet_length({column}) BETWEEN {least} AND {most}"


def constraints(of: dict[str, str]) -> list[str]:
    return [f"CONSTRAINT {MESSAGES}_{name}_rule CHECK ({rule})" for name, rule in of.items()]


NEW_COLUMNS = (
    "destination TEXT NOT NULL DEFAULT 'gateway'",
    "refused_for_ms {integer} NOT NULL DEFAULT 0",
    "refused_at {integer}",
    "crashes {integer} NOT NULL DEFAULT 0",
)
CREATE_MESSAGES = """
    CREATE TABLE {table} (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        topic TEXT NOT NULL,
        key TEXT NOT NULL,
        version INTEGER NOT NULL,
        shard INTEGER NOT NULL CHECK (shard BETWEEN 0 AND 63),
        payload TEXT NOT NULL,
        origin TEXT NOT NULL DEFAULT 'live' CHECK (origin IN ('live', 'replay')),
        enqueued_at INTEGER NOT NULL,
        state TEXT NOT NULL DEFAULT 'pending'
            CHECK (state IN ('pending', 'retrying', 'delivered', 'superseded', 'dead')),
        attempts INTEGER NOT NULL DEFAULT 0,
        available_at INTEGER CHECK (state <> 'retrying' OR available_at IS NOT NULL),
        last_error TEXT CHECK (length(last_error) <= 2000),
        settled_at INTEGER CHECK ((state IN ('delivered', 'superseded', 'dead')) = (settled_at IS NOT NULL)),
        {more}
    ) STRICT
"""
# The state is written out in each partial index and in each query that uses it: SQLite matches them by their text.
INDEXES = {
    "ix_outbox_pending": "(destination, origin, seq) WHERE state = 'pending'",
    "ix_outbox_retrying": "(destination, available_at, seq) WHERE state = 'retrying'",
    "ix_outbox_key": "(destination, topic, key, version, seq) WHERE state IN ('pending', 'retrying', 'dead')",
    "ix_outbox_dead": "(destination, seq) WHERE state = 'dead'",
    "ix_outbox_settled": "(destination, settled_at) WHERE state IN ('delivered', 'superseded')",
}
# No default for the destination of a lease or a relay: a relay of the release before, which knows none, must fail to
# sign on instead of being given a share of shards that it can never take. Its log shows the rule that it broke.
OLDER = "relay_is_older_than_the_outbox_install_the_new_release"
CREATE_LEASES = """
    CREATE TABLE outbox_leases (
        destination TEXT NOT NULL CHECK (destination IN ('gateway', 'assistant')),
        shard {integer} NOT NULL CHECK (shard BETWEEN 0 AND 63),
        owner TEXT NOT NULL CHECK (length(owner) BETWEEN 1 AND 255),
        token TEXT NOT NULL UNIQUE CHECK (length(token) BETWEEN 1 AND 255),
        expires_at {integer} NOT NULL CHECK (expires_at BETWEEN {first_instant} AND {last_instant}),
        length_ms {integer} NOT NULL CHECK (length_ms BETWEEN 1 AND {longest}),
        PRIMARY KEY (destination, shard)
    ) {small}
"""
CREATE_RELAYS = """
    CREATE TABLE outbox_relays (
        id TEXT NOT NULL PRIMARY KEY CHECK (length(id) BETWEEN 1 AND 255),
        destination TEXT CONSTRAINT {older} CHECK (destination IS NOT NULL)
            CHECK (destination IN ('gateway', 'assistant')),
        host TEXT NOT NULL CHECK (length(host) <= 255),
        host_name TEXT NOT NULL DEFAULT '' CHECK (length(host_name) <= 255),
        pid {integer} NOT NULL CHECK (pid BETWEEN 1 AND 2147483647),
        pid_started {integer} CHECK (pid_started >= 0),
        version TEXT NOT NULL DEFAULT 'unknown' CHECK (length(version) BETWEEN 1 AND 255),
        gateway TEXT NOT NULL DEFAULT '' CHECK (length(gateway) <= 2000),
        started_at {integer} NOT NULL CHECK (started_at BETWEEN {first_instant} AND {last_instant}),
        seen_at {integer} NOT NULL CHECK (seen_at BETWEEN {first_instant} AND {last_instant}),
        last_error TEXT CHECK (length(last_error) <= 2000),
        down_since {integer} CHECK (down_since BETWEEN {first_instant} AND {last_instant}),
        last_delivered_at {integer} CHECK (last_delivered_at BETWEEN {first_instant} AND {last_instant})
    ) {small}
"""
CREATE_IDENTITY = """
    CREATE TABLE outbox_identity (
        one {integer} PRIMARY KEY CHECK (one = 1),
        id TEXT NOT NULL CHECK (length(id) = 32),
        made_at {integer} NOT NULL
    ) {small}
"""
CREATE_ROUTES = """
    CREATE TABLE outbox_routes (
        destination TEXT NOT NULL PRIMARY KEY CHECK (destination IN ('gateway', 'assistant')),
        gateway_identity TEXT,
        gateway_url TEXT,
        batches_seen {integer} NOT NULL DEFAULT 0 CHECK (batches_seen >= 0),
        restored_seen_at {integer},
        first_drained_at {integer}
    ) {small}
"""
