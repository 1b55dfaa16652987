"""A kind of row that no store has, mirrored as a store would: parcels, each on a shelf and with a name of its own."""

from collections.abc import Sequence

from sqlalchemy import Connection

from outbox.database.rows import ForEachRow, ForKeys, Insert
from outbox.mirroring.declaration import Declaration, Immutable, Larger, Ranked, latest
from outbox.mirroring.entity import Locked
from outbox.mirroring.errors import MirrorRefusedError, UnmergeableError
from outbox.mirroring.merge import Merge, Row

COLUMNS = {"id": "text", "shelf": "text", "state": "text", "name": "text", "at": "bigint"}
TABLES = (
    "CREATE TABLE shelves (id TEXT PRIMARY KEY)",
    "CREATE TABLE parcels (id TEXT PRIMARY KEY, shelf TEXT REFERENCES shelves (id), state TEXT, name TEXT, at BIGINT)",
    "CREATE UNIQUE INDEX one_name ON parcels (name)",
    "INSERT INTO shelves VALUES ('s1')",
)
DECLARED = Declaration(
    "parcel",
    "id",
    (
        ("shelf", Immutable()),
        ("state", Ranked(("open", "shut"))),
        ("name", latest("at")),
        ("at", Larger()),
    ),
)
_merge = Merge(DECLARED, list(COLUMNS))
_SHELVES = ForKeys("SELECT id FROM shelves WHERE id {among} ORDER BY id {lock}", lock="FOR KEY SHARE")
_PARCELS = ForKeys(f"SELECT {', '.join(COLUMNS)} FROM parcels WHERE id {{among}} ORDER BY id {{lock}}")
_INSERT = Insert("parcels", COLUMNS)
_CHANGE = "UPDATE parcels AS p SET {changes} {{from_rows}} WHERE p.id = {{id}}"
_UPDATE = ForEachRow(_CHANGE.format(changes=", ".join(f"{name} = {{{name}}}" for name in COLUMNS)), COLUMNS)
_SHUT = ForEachRow(_CHANGE.format(changes="state = {state}"), {"id": "text", "state": "text"})


class Parcels:
    table = "the table of parcels"

    def key(self, row: Row) -> str:
        return str(row[0])

    def lock(self, connection: Connection, rows: Sequence[Row]) -> Locked[Row]:
        shelves = _SHELVES.run(connection, [row[1] for row in rows])
        parcels = _PARCELS.run(connection, [row[0] for row in rows])
        return Locked({shelf.id for shelf in shelves}, {parcel.id: tuple(parcel) for parcel in parcels})

    def ask(self, connection: Connection, rows: Sequence[Row]) -> None:
        self.lock(connection, rows)

    def is_there(self, connection: Connection, row: Row) -> bool:
        return bool(_PARCELS.run(connection, [row[0]]))

    def write(self, connection: Connection, locked: Locked[Row], rows: Sequence[Row]) -> list[str | MirrorRefusedError]:
        current = dict(locked.rows)
        results = [_merge_into(current, locked.references, row) for row in rows]
        changed = [row for row in current.values() if row != locked.rows.get(row[0])]
        _INSERT.run(connection, [row for row in changed if row[0] not in locked.rows])
        _UPDATE.run(connection, [row for row in changed if row[0] in locked.rows])
        locked.rows.update(current)
        return results

    def salvage(self, connection: Connection, locked: Locked[Row], row: Row) -> str:
        merged = _merge(locked.rows[row[0]], row)
        _SHUT.run(connection, [(merged[0], merged[2])])
        return f"; it is {merged[2]} all the same"


def _merge_into(current: dict[str, Row], shelves: set[str], row: Row) -> str | MirrorRefusedError:
    try:
        merged = _merge(current[row[0]], row) if row[0] in current else row
    except UnmergeableError as error:
        return MirrorRefusedError(str(error))
    if row[1] not in shelves:
        return MirrorRefusedError(f"no shelf {row[1]}")
    current[row[0]] = merged
    return f"mirrored {row[0]}"
