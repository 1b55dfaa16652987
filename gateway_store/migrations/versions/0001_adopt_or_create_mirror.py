"""The mirror: created, or rebuilt from either shape found in the field with every row it had.

Known shapes: fourteen columns with ``invite_code_hash`` NOT NULL; or all columns, with ``invite_code_hash`` nullable,
or NOT NULL with '' meaning none.
"""

from alembic import op
from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import IntegrityError

from outbox.errors import SchemaRefusedError
from outbox.shape import refuse_other_shape

revision = "0001"
down_revision = None

TABLE = "ingress_invites"
NEW = f"{TABLE}_new"
CLOSED = f"{TABLE}_closed"
OLD = {
    "id": "text",
    "source_channel": "text",
    "invite_code_hash": "text",
    "note": "text",
    "max_uses": "integer",
    "use_count": "integer",
    "expires_at": "integer",
    "status": "text",
    "redeemed_by_external_user_id": "text",
    "redeemed_by_external_chat_id": "text",
    "redeemed_at": "integer",
    "contact_id": "text",
    "created_at": "integer",
    "updated_at": "integer",
}
ADDED = {
    "token_hash": "text",
    "source_conversation_id": "text",
    "expected_external_user_id": "text",
    "voice_code_hash": "text",
    "voice_code_digits": "integer",
    "friend_name": "text",
    "guardian_name": "text",
}
CONTACT_COLUMNS = ("id", "display_name", "role", "principal_id", "created_at", "updated_at")

CREATE_CONTACTS = """
    CREATE TABLE contacts (
        id TEXT NOT NULL PRIMARY KEY,
        display_name TEXT NOT NULL,
        role TEXT NOT NULL DEFAULT 'contact',
        principal_id TEXT,
        created_at BIGINT NOT NULL,
        updated_at BIGINT NOT NULL
    )
"""
CREATE_INVITES = """
    CREATE TABLE {table} (
        id TEXT NOT NULL PRIMARY KEY,
        source_channel TEXT NOT NULL,
        token_hash TEXT,
        source_conversation_id TEXT,
        note TEXT,
        max_uses BIGINT NOT NULL DEFAULT 1,
        use_count BIGINT NOT NULL DEFAULT 0,
        expires_at BIGINT NOT NULL,
        status TEXT NOT NULL DEFAULT 'active',
        redeemed_by_external_user_id TEXT,
        redeemed_by_external_chat_id TEXT,
        redeemed_at BIGINT,
        expected_external_user_id TEXT,
        voice_code_hash TEXT,
        voice_code_digits BIGINT,
        invite_code_hash TEXT,
        friend_name TEXT,
        guardian_name TEXT,
        contact_id TEXT NOT NULL REFERENCES contacts (id) ON DELETE CASCADE,
        created_at BIGINT NOT NULL,
        updated_at BIGINT NOT NULL
    )
"""
# A deleted contact takes its invites along; a late copy of one that was used or closed must still find it closed.
CREATE_CLOSED = """
    CREATE TABLE ingress_invites_closed (
        id TEXT NOT NULL PRIMARY KEY,
        status TEXT NOT NULL,
        use_count BIGINT NOT NULL
    )
"""
REMEMBER_CLOSED = """
    CREATE TRIGGER ingress_invites_remember_closed AFTER DELETE ON ingress_invites
    WHEN old.status <> 'active' OR old.use_count > 0
    BEGIN
        INSERT OR REPLACE INTO ingress_invites_closed (id, status, use_count)
        VALUES (old.id, old.status, old.use_count);
    END
"""
INDEXES = {
    "idx_ingress_invites_token_lookup": "token_hash",
    "idx_ingress_invites_code_lookup": "invite_code_hash, source_channel",
    "idx_ingress_invites_voice_lookup": "voice_code_hash, source_channel",
    "idx_ingress_invites_contact": "contact_id",
}


def upgrade() -> None:
    connection = op.get_bind()
    tables = set(inspect(connection).get_table_names())
    _refuse_taken_names(connection)
    if TABLE not in tables:
        if "contacts" in tables:
            _refuse_odd_contacts(connection)
        else:
            op.execute(CREATE_CONTACTS)
        op.execute(CREATE_INVITES.format(table=TABLE))
    else:
        _refuse_odd(connection, tables)
        _rebuild(connection)
    for name, columns in INDEXES.items():
        op.execute(f"CREATE INDEX {name} ON {TABLE} ({columns})")
    op.execute(CREATE_CLOSED)
    connection.exec_driver_sql(REMEMBER_CLOSED)


def _refuse_taken_names(connection: Connection) -> None:
    """SQLite's names ignore case, and an index may not have the name of one on another table."""
    rows = connection.execute(text("SELECT name, type, tbl_name FROM sqlite_master")).all()
    wanted = {TABLE, NEW, CLOSED, *INDEXES}
    taken = [
        f"{kind} {name}"
        for name, kind, table in rows
        if name.lower() in wanted and (kind, name) != ("table", TABLE) and (kind, table) != ("index", TABLE)
    ]
    if taken:
        raise SchemaRefusedError(
            f"{connection.engine.url.database} has another use for names that {TABLE} needs: {', '.join(taken)}; "
            "rename or drop what has them. Nothing was changed"
        )


def _refuse_odd(connection: Connection, tables: set[str]) -> None:
    if "contacts" not in tables:
        raise SchemaRefusedError(
            f"{connection.engine.url.database} has {TABLE} but no contacts, to which it must refer. Nothing was changed"
        )
    _refuse_odd_contacts(connection)
    inspector = inspect(connection)
    found = {column["name"] for column in inspector.get_columns(TABLE)}
    refuse_other_shape(connection, TABLE, OLD | ADDED if found & ADDED.keys() else OLD)
    keys = {(*key["constrained_columns"], key["referred_table"]) for key in inspector.get_foreign_keys(TABLE)}
    if keys != {("contact_id", "contacts")}:
        raise SchemaRefusedError(
            f"{TABLE} in {connection.engine.url.database} must have one foreign key, from contact_id to contacts; "
            f"found {sorted(keys)}. Nothing was changed"
        )
    triggers = _in_catalogue(connection, "trigger")
    if triggers:
        raise SchemaRefusedError(
            f"{TABLE} in {connection.engine.url.database} has triggers ({', '.join(triggers)}), which a rebuild would "
            "lose; drop them, upgrade, and create them again. Nothing was changed"
        )


def _refuse_odd_contacts(connection: Connection) -> None:
    inspector = inspect(connection)
    columns = {column["name"]: column for column in inspector.get_columns("contacts")}
    odd = [f"column {name} is missing" for name in CONTACT_COLUMNS if name not in columns]
    odd += [
        f"column {name} is unknown and must be given"
        for name, column in columns.items()
        if name not in CONTACT_COLUMNS and not column["nullable"] and column["default"] is None
    ]
    key = inspector.get_pk_constraint("contacts")["constrained_columns"]
    if key != ["id"]:
        odd.append(f"the primary key is {', '.join(key) or 'missing'}, not id")
    if odd:
        raise SchemaRefusedError(
            f"contacts in {connection.engine.url.database} cannot be adopted: {'; '.join(odd)}. Nothing was changed"
        )


def _rebuild(connection: Connection) -> None:
    """SQLite drops a NOT NULL only by copying the table; with foreign keys off, dropping the old one deletes no row."""
    found = [column["name"] for column in inspect(connection).get_columns(TABLE)]
    other_indexes = [
        statement for name, statement in _in_catalogue(connection, "index").items() if name not in INDEXES and statement
    ]
    copied = ", ".join(f"NULLIF(\"{name}\", '')" if name == "invite_code_hash" else f'"{name}"' for name in found)
    names = ", ".join(f'"{name}"' for name in found)
    op.execute(CREATE_INVITES.format(table=NEW))
    try:
        op.execute(f"INSERT INTO {NEW} ({names}) SELECT {copied} FROM {TABLE}")  # noqa: S608 - names checked above
    except IntegrityError as error:
        raise SchemaRefusedError(
            f"{TABLE} in {connection.engine.url.database} has a row that cannot be kept: {error.orig}; "
            "correct or delete it. Nothing was changed"
        ) from error
    op.execute(f"DROP TABLE {TABLE}")
    # Without this a view, or a trigger elsewhere, that names the table would stop the renaming: it is gone just now.
    op.execute("PRAGMA legacy_alter_table=ON")
    op.execute(f"ALTER TABLE {NEW} RENAME TO {TABLE}")
    op.execute("PRAGMA legacy_alter_table=OFF")
    for statement in other_indexes:
        connection.exec_driver_sql(statement)


def _in_catalogue(connection: Connection, kind: str) -> dict[str, str | None]:
    rows = connection.execute(
        text("SELECT name, sql FROM sqlite_master WHERE tbl_name = :table AND type = :kind"),
        {"table": TABLE, "kind": kind},
    )
    return {row.name: row.sql for row in rows}
