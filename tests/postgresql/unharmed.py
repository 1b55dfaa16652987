"""A daemon that goes on whatever happens, and the proof that nothing came to harm meanwhile."""

import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError

from assistant_store.invites.invite import TABLE
from tests.conftest import Stores, rows, write
from tests.system.processes import RelayProcess, relay

PACE_SECONDS = 0.01


def watch_closing(stores: Stores) -> None:
    """The gateway's database itself notes any invite that opens again."""
    write(stores.mirror, "CREATE TABLE reopened (id text)")
    write(
        stores.mirror,
        """
        CREATE FUNCTION note_reopened() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN INSERT INTO reopened VALUES (new.id); RETURN NULL; END'
        """,
    )
    write(
        stores.mirror,
        """
        CREATE TRIGGER watch AFTER UPDATE ON ingress_invites FOR EACH ROW
        WHEN (old.status <> 'active' AND new.status = 'active') EXECUTE FUNCTION note_reopened()
        """,
    )


def change_something(stores: Stores, choose: random.Random) -> None:
    """An invite, of which most are used up or revoked."""
    invite = stores.create().invite
    if choose.random() < 0.4:
        stores.use(invite.id)
    elif choose.random() < 0.5:
        stores.revoke(invite.id)


@contextmanager
def busy_daemon(stores: Stores) -> Iterator[Counter[str]]:
    """Changes invites in a thread of its own until left; counts what was ``done`` and what its database ``refused``."""
    seen: Counter[str] = Counter(done=0, refused=0)
    leaving = threading.Event()

    def go_on() -> None:
        choose = random.Random(1)  # noqa: S311 - no secret, and repeatable
        while not leaving.wait(PACE_SECONDS):
            try:
                change_something(stores, choose)
                seen["done"] += 1
            except DBAPIError:
                seen["refused"] += 1

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield seen
    finally:
        leaving.set()
        thread.join(30)


def assert_unharmed(stores: Stores, *relays: RelayProcess) -> None:
    """Nothing lost, nothing opened again, no attempt burnt, nothing dead; and the logs are whole."""
    assert relay(stores, "verify").code == 0
    assert rows(stores.mirror, "SELECT id FROM reopened") == []
    assert set(stores.states()) <= {"delivered", "superseded"}
    assert rows(stores.source, "SELECT DISTINCT attempts FROM outbox_messages") == [{"attempts": 0}]
    closed = rows(stores.source, f"SELECT 1 FROM {TABLE} WHERE status <> 'active' LIMIT 1")
    assert closed, "nothing could have been opened again"
    for one in relays:
        assert one.events("not json") == []
