"""What a difference is called, and what a person does about it: a cure is named only where the merge makes it one."""

from collections.abc import Callable, Sequence, Set
from enum import StrEnum

from outbox.pages import Value, Values
from relay.topics import STATUS_RANK, Topic

# Of many rows that want one cure so many are named in a command.
MOST_NAMED = 20


class Kind(StrEnum):
    MISSING = "missing"
    """Only in the assistant's store."""
    CONTACT_MISSING = "contact_missing"
    """Only in the assistant's store, and the gateway does not know its contact either."""
    EXTRA = "extra"
    """Only in the gateway's store. One that is closed there lets nobody in, and nobody has to do anything."""
    STATUS_BEHIND = "status_behind"
    """The gateway would let in more than the assistant allows: an earlier status, or fewer uses counted."""
    AHEAD = "ahead"
    """The gateway has a later status, more uses counted, or else a newer row than the assistant."""
    STALE = "stale"
    """The gateway has an older state, but no more open than the newer one."""
    FIELDS_DIFFER = "fields_differ"
    """Both have the same status, uses and ``updated_at``, and something else differs."""


class Cure(StrEnum):
    REPLAY = "replay"
    TOUCH = "touch"
    CONTACT = "contact"
    CLOSE_EXTRA = "close_extra"
    AHEAD = "ahead"
    BY_HAND = "by_hand"
    NONE = "none"


Typed = Callable[..., str]
"""Makes of the words of a command the line to be typed."""


def next_step(cure: Cure, ids: Sequence[str], count: int, typed: Typed) -> str:
    """What to do about ``count`` rows that want one cure, of which at most `MOST_NAMED` are named."""
    these = [word for id_ in ids for word in ("--id", id_)]
    all_named = len(ids) == count
    of_all = typed("replay", *(these if all_named else ["--all"]))
    first = "" if all_named else f" (the first {len(ids)}; then `{typed('verify')}` names more)"
    match cure:
        case Cure.REPLAY:
            return f"`{of_all}` repairs it"
        case Cure.TOUCH if these:
            return (
                "the gateway's row is as new or newer, so a plain replay changes nothing; if the assistant's is right, "
                f"`{typed('replay', *these, '--touch')}` raises its updated_at and makes it win{first}"
            )
        case Cure.CONTACT:
            return (
                "the gateway does not know the contact, and until it does no replay helps; add the contact at the "
                f"gateway, then `{of_all}`"
            )
        case Cure.CLOSE_EXTRA:
            line = typed("verify", *(these if all_named else []), "--close-extra")
            return f"only the gateway has it, so no replay helps; `{line}` revokes it there"
        case Cure.AHEAD:
            return (
                "the gateway is ahead, as after a restore of the assistant's database, and no replay undoes that; "
                "restore a newer copy of the assistant's database, or give its row by hand what the gateway has"
            )
        case _:
            look = f"`{typed('verify', *these)}` names the fields{first}" if these else "its fields are named above"
            return f"no replay helps; {look}, correct one of the two rows by hand"


def kind_of(left: Values | None, right: Values | None, contacts: Set[str], topic: Topic) -> Kind:
    """``contacts``: those that the gateway knows."""
    if left is None:
        return Kind.EXTRA
    ours = dict(zip(topic.columns, left, strict=True))
    if right is None:
        return Kind.MISSING if ours["contact_id"] in contacts else Kind.CONTACT_MISSING
    theirs = dict(zip(topic.columns, right, strict=True))
    our_rank, their_rank = _rank(ours["status"]), _rank(theirs["status"])
    if their_rank < our_rank or _is_less(theirs["use_count"], ours["use_count"]):
        return Kind.STATUS_BEHIND
    if 0 <= our_rank < their_rank or _is_less(ours["use_count"], theirs["use_count"]):
        return Kind.AHEAD
    if _is_less(theirs["updated_at"], ours["updated_at"]):
        return Kind.STALE
    if _is_less(ours["updated_at"], theirs["updated_at"]):
        return Kind.AHEAD
    return Kind.FIELDS_DIFFER


def cure_of(left: Values | None, right: Values | None, contacts: Set[str], topic: Topic) -> tuple[Cure, bool]:
    """What makes the rows equal, and whether delivering the assistant's row as it is does so."""
    if left is None:
        return (Cure.NONE if lets_nobody_in(right, topic) else Cure.CLOSE_EXTRA), False
    delivered = _delivered(left, right, topic)
    if delivered is None:
        return Cure.BY_HAND, False
    contact = topic.columns.index("contact_id")
    if (right is None or delivered[contact] != right[contact]) and delivered[contact] not in contacts:
        return Cure.CONTACT, False
    if delivered == left:
        return Cure.REPLAY, True
    if right is not None and _touching_makes_equal(left, right, topic):
        return Cure.TOUCH, False
    kind = kind_of(left, right, contacts, topic)
    if kind is Kind.STATUS_BEHIND and delivered != right:
        # It closes what must be closed; the rest shows then.
        return Cure.REPLAY, False
    return (Cure.AHEAD if kind is Kind.AHEAD else Cure.BY_HAND), False


def lets_nobody_in(right: Values | None, topic: Topic) -> bool:
    return right is not None and _rank(right[topic.columns.index("status")]) > STATUS_RANK["active"]


def _delivered(left: Values, right: Values | None, topic: Topic) -> Values | None:
    state = topic.current_state(left)
    return None if state is None else topic.foresee(state[2], right)


def _touching_makes_equal(left: Values, right: Values, topic: Topic) -> bool:
    theirs = right[topic.columns.index("updated_at")]
    touched = topic.touched(left, theirs) if isinstance(theirs, int) else None
    return touched is not None and _delivered(touched, right, topic) == touched


def _is_less(one: Value, other: Value) -> bool:
    """False of what is no number: such a row is neither behind nor ahead, it is odd."""
    return isinstance(one, int | float) and isinstance(other, int | float) and one < other


def _rank(status: Value) -> int:
    return STATUS_RANK.get(status, -1) if isinstance(status, str) else -1
