"""Where the two stores meet: the only file that knows both. A new topic is one more `Topic` in `TOPICS`."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy import Connection, Engine
from sqlalchemy.orm import Session

import assistant_store.invites.enqueue
import assistant_store.invites.invite
import assistant_store.invites.read
import assistant_store.invites.replay
import assistant_store.migrate
import gateway_store.contacts.contact
import gateway_store.identity
import gateway_store.invites.close
import gateway_store.invites.foresee
import gateway_store.invites.invite
import gateway_store.invites.mirror
import gateway_store.invites.read
import gateway_store.migrate
from assistant_store.invites.replay import Replayable, Selection
from outbox.database.migrate import Scripts
from outbox.fence import Prove
from outbox.pages import Pages, Place, Values

__all__ = [
    "APPLIERS",
    "INVITES",
    "MIRROR",
    "SOURCE",
    "STATUS_RANK",
    "TOPICS",
    "Replayable",
    "Selection",
    "Store",
    "Topic",
    "upgrade_mirror",
    "upgrade_source",
]

Admit = Callable[[gateway_store.identity.StoreFacts], None]


class Apply(Protocol):
    def __call__(self, engine: Engine, payloads: Sequence[str], *, admit: Admit, prove: Prove) -> Sequence[object]:
        """Durable when it returns; an outcome or a refusal for each payload.

        Writes only to a store that ``admit`` takes, and commits only what ``prove`` allows.
        """


class ReplayPage(Protocol):
    def __call__(
        self, session: Session, selection: Selection, *, place: Place, limit: int, above: Mapping[str, int] | None
    ) -> Replayable: ...


class Close(Protocol):
    def __call__(self, engine: Engine, ids: Sequence[str], *, admit: Admit) -> Mapping[str, str]:
        """Closes rows that only the destination has; by id, why one could not be closed."""


@dataclass(frozen=True, slots=True)
class Topic:
    """Who produces a topic's messages, who applies them, and how its two sides are compared."""

    name: str
    columns: tuple[str, ...]
    apply: Apply
    source: Pages
    mirror: Pages
    known_references: Callable[[Connection, Iterable[str]], set[str]]
    count: Callable[[Session, Selection], int]
    replay_page: ReplayPage
    current_state: Callable[[Values], tuple[str, int, str] | None]
    """Key, version and payload of a source's row; None where no message can be made of it."""
    touched: Callable[[Values, int], Values | None]
    """A source's row as touching it, above an instant, would leave it."""
    foresee: Callable[[str, Values | None], Values | None]
    """What applying a payload would make of the destination's row; None where it is refused."""
    close: Close


INVITES = Topic(
    name=assistant_store.invites.enqueue.TOPIC,
    columns=assistant_store.invites.invite.COLUMNS,
    apply=gateway_store.invites.mirror.mirror_and_commit,
    source=assistant_store.invites.read.PAGES,
    mirror=gateway_store.invites.read.PAGES,
    known_references=gateway_store.contacts.contact.known_contacts,
    count=assistant_store.invites.replay.count_selected,
    replay_page=assistant_store.invites.replay.replay_page,
    current_state=assistant_store.invites.replay.current_state,
    touched=assistant_store.invites.replay.touched_row,
    foresee=gateway_store.invites.foresee.foresee,
    close=gateway_store.invites.close.revoke_and_commit,
)
TOPICS = {topic.name: topic for topic in (INVITES,)}
APPLIERS = {name: topic.apply for name, topic in TOPICS.items()}
STATUS_RANK = gateway_store.invites.invite.RANK


def upgrade_source(engine: Engine) -> None:
    assistant_store.migrate.upgrade(engine)


def upgrade_mirror(engine: Engine, *, take_over: bool = False) -> None:
    gateway_store.migrate.upgrade(engine, take_over=take_over)


@dataclass(frozen=True, slots=True)
class Store:
    """One of the two sides' databases: what it is called, what makes it, and what keeps it from being used."""

    name: str
    option: str
    """Of the command, which names its URL."""
    scripts: Scripts
    problem: Callable[[Connection], str | None]
    """What keeps this release from using it, and the cure."""
    is_of_others: Callable[[Connection], bool] = lambda _: False
    """Whether another program owns it, and must be asked first."""
    rows_problem: Callable[[Connection], str | None] = lambda _: None
    """What keeps the rows of one that another program owns from being compared."""


SOURCE = Store(
    "the assistant's database",
    "--assistant-db",
    assistant_store.migrate.SCRIPTS,
    assistant_store.migrate.schema_problem,
)
MIRROR = Store(
    "the gateway's database",
    "--gateway",
    gateway_store.migrate.SCRIPTS,
    gateway_store.migrate.schema_problem,
    gateway_store.migrate.is_of_others,
    gateway_store.migrate.rows_problem,
)
