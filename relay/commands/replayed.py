"""How `relay replay` ends: what it did, what is equal now, and what to do about the rest."""

from collections.abc import Sequence
from typing import Any

from outbox.counted import counted
from relay.commands.context import Run
from relay.differences import Comparison
from relay.errors import UnrepairedError
from relay.replay import Replayed


def report_enqueued(run: Run, done: Replayed, beyond: Sequence[int]) -> None:
    """Of a replay that leaves the delivering to a relay. ``beyond``: the dead letters that no replay helps."""
    run.printer.record(_counts(done), "Replay")
    _end([*_of_odd(done), *_of_beyond(run, beyond)])


def report_delivered(run: Run, done: Replayed, seen: Comparison | None, beyond: Sequence[int]) -> None:
    """Of a replay that saw its messages through; ``seen``: how its rows compare now, None where nobody can tell."""
    steps = [] if seen is None else seen.next_steps(run.typed, replayed=True)
    run.printer.record(_counts(done) | _outcome(run, done, seen, steps), "Replay")
    if seen is None:
        run.printer.warn(
            "nothing was compared, for a socket shows no rows; `relay --gateway URL verify`, with the URL of the "
            "gateway's database, says what is equal now"
        )
    problems = _of_odd(done)
    if done.refused:
        listed, status = run.typed("dead", "list"), run.typed("status")
        problems.insert(
            0, f"{counted(done.refused, 'message was', 'messages were')} refused; see `{listed}` and `{status}`"
        )
    if steps and seen is not None:
        problems += [counted(seen.open, "row is still different", "rows are still different"), *steps]
    _end(problems + _of_beyond(run, beyond))


def _counts(done: Replayed) -> dict[str, Any]:
    return {"selected": done.selected, "enqueued": done.enqueued, "already_waiting": done.waited}


def _outcome(run: Run, done: Replayed, seen: Comparison | None, steps: Sequence[str]) -> dict[str, Any]:
    """``repaired`` means equal; of what still differs, what waits and will be equal once it is delivered is apart."""
    found: dict[str, Any] = {"delivered": done.delivered}
    if seen is None:
        found |= {"repaired": None, "unrepaired": done.refused + done.odd, "still_different": None}
    else:
        kinds = {kind: count for kind, count in seen.by_kind.items() if count}
        found |= {"repaired": seen.equal, "unrepaired": max(seen.open, done.refused) + done.odd}
        found |= {"still_different": kinds if kinds or run.printer.as_json else None, "on_their_way": seen.heals}
    return found | ({"next_steps": list(steps)} if run.printer.as_json else {})


def _of_odd(done: Replayed) -> list[str]:
    return [f"{counted(done.odd, 'row', 'rows')} cannot be enqueued; correct by hand"] if done.odd else []


def _of_beyond(run: Run, beyond: Sequence[int]) -> list[str]:
    if not beyond:
        return []
    show, drop = (
        run.typed("dead", "show", str(beyond[0])),
        run.typed("dead", "drop", str(beyond[0]), "--reason", "TEXT"),
    )
    return [
        f"{counted(len(beyond), 'dead letter is', 'dead letters are')} of rows that are gone or of unknown topics, so "
        f"no replay helps; look at each with `{show}`, and `{drop}` gives it up"
    ]


def _end(problems: Sequence[str]) -> None:
    if problems:
        raise UnrepairedError("; ".join(problems))
