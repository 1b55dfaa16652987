"""What this release needs of the daemon's invite table, adopted or made."""

from assistant_store.invites.invite import COLUMNS, INTEGERS, TABLE
from outbox.database.shape import Needs

ADOPTED = (TABLE,)
"""Made by another program, maybe."""


def needs(_dialect: str) -> Needs:
    return Needs({TABLE: {name: "integer" if name in INTEGERS else "text" for name in COLUMNS}}, {TABLE: ("id",)})
