"""What this release needs of the gateway's tables, as its scripts leave them."""

from gateway_store.migrations import remember_closed
from gateway_store.migrations.mirror_schema import ADDED, CLOSED, CONTACT_COLUMNS, INDEXES, OLD, TABLE, create_index
from outbox.database.shape import ANY, Made, Needs

IDENTITY, BATCHES = "store_identity", "store_batches"
ADOPTED = (TABLE, "contacts")
"""Made by another program, maybe."""


def needs(dialect: str) -> Needs:
    identity = {"single": "integer", "id": "text", "made_at": "integer", "drained_from": "text"}
    if dialect == "sqlite":
        identity |= {"batches": "integer"}
    tables = {
        TABLE: OLD | ADDED,
        "contacts": dict.fromkeys(CONTACT_COLUMNS, ANY),
        CLOSED: {"id": "text", "status": "text", "use_count": "integer"},
        IDENTITY: identity,
    }
    return Needs(
        tables,
        {name: ("single",) if name == IDENTITY else ("id",) for name in tables},
        _made(dialect),
        references=[(TABLE, "contact_id", "contacts")],
        sequences=() if dialect == "sqlite" else (BATCHES,),
        with_a_row=(IDENTITY,),
    )


def _made(dialect: str) -> list[Made]:
    made = [Made("index", name, TABLE, create_index(name)) for name in INDEXES]
    if dialect == "sqlite":
        return made + [Made("trigger", name, TABLE, words) for name, words in remember_closed.SQLITE.items()]
    function = remember_closed.FUNCTION.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION")
    return made + [
        Made("trigger", name, TABLE, f"{function}; {words}") for name, words in remember_closed.POSTGRESQL.items()
    ]
