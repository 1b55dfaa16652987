"""A gateway's database that takes notes of itself, so that not even a short lapse is missed."""

from tests.conftest import Stores, rows, write

WATCH = {
    "sqlite": [
        "CREATE TABLE seen (number INTEGER PRIMARY KEY, status TEXT)",
        *(
            f"CREATE TRIGGER see_{change} AFTER {change} ON ingress_invites "
            "BEGIN INSERT INTO seen (status) VALUES (new.status); END"
            for change in ("INSERT", "UPDATE")
        ),
    ],
    "postgresql": [
        "CREATE TABLE seen (number bigint GENERATED ALWAYS AS IDENTITY, status text)",
        "CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN INSERT INTO seen (status) VALUES (new.status); RETURN NULL; END'",
        "CREATE TRIGGER see AFTER INSERT OR UPDATE ON ingress_invites FOR EACH ROW EXECUTE FUNCTION see()",
    ],
}


def watch_mirror(stores: Stores) -> None:
    """Notes every status that any commit at the gateway ever gave an invite."""
    for statement in WATCH[stores.mirror.dialect.name]:
        write(stores.mirror, statement)


def statuses_seen(stores: Stores) -> list[str]:
    return [row["status"] for row in rows(stores.mirror, "SELECT status FROM seen ORDER BY number")]
