"""A heap of waiting invites, made once and copied for every run: whoever drains it finds the same."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from sqlalchemy import Connection, insert
from sqlalchemy.orm import Session

import assistant_store
from assistant_store.invites.invite import INVITES, Invite, payload_of
from assistant_store.invites.secret import hash_secret, new_code, new_id, new_token
from bench.place import Place
from bench.stage import CONTACT, Stage, opened, set_up, stage
from gateway_store.migrations.mirror_schema import CLOSED, INDEXES, TABLE, TRIGGERS
from outbox import Destination, Origin, reading, writing
from outbox.enqueue import enqueue_many

AT_ONCE = 5_000
EVERY_MS = 20

Heap = Callable[[], AbstractContextManager[Stage]]
"""A fresh copy of both stores, gone afterwards."""


@contextmanager
def heap(where: Place, count: int, *, as_pull_request: bool = False) -> Iterator[Heap]:
    """``count`` pending messages of new invites, with random tokens and codes.

    Everything as the product has it; or with random ids, and the gateway's table as the first pull request had it:
    whole indexes, and no memory of what was deleted.
    """
    template = where.empty()
    set_up(template)
    with opened(template) as at:
        if as_pull_request:
            with writing(at.mirror) as connection:
                as_the_pull_request_had_it(connection)
        fill(at, count, random_ids=as_pull_request)
        if at.source.dialect.name == "postgresql":
            # As autovacuum would within a minute; the peers' scripts do the same.
            with writing(at.source) as connection:
                connection.exec_driver_sql("ANALYZE")

    @contextmanager
    def copied() -> Iterator[Stage]:
        stores = where.copy(template)
        try:
            with opened(stores) as at:
                yield at
        finally:
            where.drop(stores)

    try:
        yield copied
    finally:
        where.drop(template)


def fill(at: Stage, count: int, *, random_ids: bool = False, enqueued: bool = True) -> None:
    for invites in _invites(at, count, random_ids):
        with Session(at.source) as session, session.begin():
            session.execute(insert(INVITES), [asdict(invite) for invite in invites])
            if enqueued:
                rows = [(invite.id, invite.updated_at, payload_of(invite)) for invite in invites]
                enqueue_many(
                    session,
                    session.connection(),
                    Destination.GATEWAY,
                    topic="invite.mirror",
                    rows=rows,
                    origin=Origin.LIVE,
                )


def write_payloads(path: Path, count: int) -> None:
    """The payloads alone, a line each, under random ids: what the peers enqueue."""
    with stage() as at, path.open("w") as lines:
        for invites in _invites(at, count, random_ids=True):
            lines.writelines(payload_of(invite) + "\n" for invite in invites)


def must_be_drained(at: Stage, wanted: int) -> None:
    found = arrived(at)
    if found != wanted:
        raise RuntimeError(f"{found} of {wanted} invites arrived")


def arrived(at: Stage) -> int:
    with reading(at.mirror) as connection:
        return int(connection.exec_driver_sql("SELECT count(*) FROM ingress_invites").scalar_one())


def _invites(at: Stage, count: int, random_ids: bool) -> Iterator[list[Invite]]:
    """In lists of some thousands; all are copies of one that the library would create, and of which it keeps none.

    The last was created just now, and 50 a second before it: what an outage leaves.
    """
    with Session(at.source) as session:
        first = assistant_store.create_invite(session, source_channel="telegram", contact_id=CONTACT).invite
        session.rollback()
    for start in range(0, count, AT_ONCE):
        instants = [
            first.created_at - (count - number) * EVERY_MS for number in range(start, min(start + AT_ONCE, count))
        ]
        yield [
            replace(
                first,
                id=str(uuid.uuid4()) if random_ids else new_id(created_at),
                token_hash=hash_secret(new_token()),
                # Codes are few and repeat; in an index the bound and the product sort them alike.
                invite_code_hash=hash_secret(new_code()),
                created_at=created_at,
                updated_at=created_at,
            )
            for created_at in instants
        ]


def as_the_pull_request_had_it(connection: Connection) -> None:
    for name, columns in INDEXES.items():
        connection.exec_driver_sql(f"DROP INDEX {name}")
        connection.exec_driver_sql(f"CREATE INDEX {name} ON {TABLE} ({columns})")
    on_table = "" if connection.dialect.name == "sqlite" else f" ON {TABLE}"
    for name in TRIGGERS:
        connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {name}{on_table}")
    connection.exec_driver_sql(f"DROP TABLE {CLOSED}")
