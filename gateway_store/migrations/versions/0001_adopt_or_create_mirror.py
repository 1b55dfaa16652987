"""The mirror: created, or adopted from either shape found in the field with every row it had.

Known shapes: fourteen columns with ``invite_code_hash`` NOT NULL; or all columns, with ``invite_code_hash`` nullable,
or NOT NULL with '' meaning none.
"""

from alembic import op
from sqlalchemy import Connection, inspect

from gateway_store.migrations import adopt_postgresql, adopt_sqlite
from gateway_store.migrations.mirror_schema import (
    ADDED,
    CLOSED,
    CONTACT_COLUMNS,
    CREATE_CLOSED,
    CREATE_CONTACTS,
    CREATE_INVITES,
    INDEXES,
    OLD,
    TABLE,
    TRIGGERS,
    create_index,
)
from outbox.database.shape import refuse_other_shape
from outbox.errors import SchemaRefusedError

revision = "0001"
down_revision = None


def upgrade() -> None:
    connection = op.get_bind()
    here = adopt_sqlite if connection.dialect.name == "sqlite" else adopt_postgresql
    tables = set(inspect(connection).get_table_names())
    _refuse_taken_names(connection, here.names_in_use(connection))
    if TABLE not in tables:
        if "contacts" in tables:
            _refuse_odd_contacts(connection)
        else:
            op.execute(CREATE_CONTACTS.format(bytewise=here.BYTEWISE))
        op.execute(CREATE_INVITES.format(table=TABLE, bytewise=here.BYTEWISE))
    else:
        _refuse_odd(connection, tables)
        here.adopt(connection)
    for name in INDEXES:
        op.execute(create_index(name))
    op.execute(CREATE_CLOSED.format(bytewise=here.BYTEWISE))
    connection.exec_driver_sql(here.REMEMBER_CLOSED)


def _refuse_taken_names(connection: Connection, in_use: list[tuple[str, str, str]]) -> None:
    wanted = {TABLE, adopt_sqlite.NEW, CLOSED, *INDEXES, *TRIGGERS}
    taken = [
        f"{kind} {name}"
        for kind, name, table in in_use
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
