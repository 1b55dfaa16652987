"""Applying what is asked together to the gateway's store, in one transaction, and saying to each what came of it."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from gateway_store.errors import MirrorRefusedError, OtherAssistantError
from gateway_store.identity import StoreFacts, claim
from gateway_store.invites.mirror import mirror_and_commit
from gateway_store.invites.payload import InvitePayload
from gateway_store.probe import StoreReadOnlyError, in_json, probe_store
from gateway_store.socket.methods import (
    Asked,
    Probe,
    Refused,
    error_answer,
    probe_answer,
    refusal_answer,
    result_answer,
)
from outbox.database.engine import once_more_if_cut_off
from outbox.errors import DatabaseMissingError
from outbox.redact import reason_of

log = structlog.get_logger()

T = TypeVar("T")
Answers = list[Mapping[str, object]]


class _UnusableError(Exception):
    """The store cannot work now; the message is what clients are told."""


def answers(engine: Engine, asked: Sequence[Asked]) -> Answers:
    """One each, in order. What is mirrored is durable before this returns; an unknown outcome is reported as an
    error."""
    answered = iter(_by_the_store(engine, [one for one in asked if not isinstance(one, Refused)]))
    return [one.answer if isinstance(one, Refused) else next(answered) for one in asked]


def _by_the_store(engine: Engine, asked: Sequence[InvitePayload | Probe]) -> Answers:
    invites = [one for one in asked if isinstance(one, InvitePayload)]
    probes = [one for one in asked if isinstance(one, Probe)]
    try:
        mirrored = iter(_mirrored(engine, invites) if invites else [])
    except _UnusableError as error:
        # To the probes as well: asking again would keep everybody waiting for the lock twice as long.
        return _all_refused(asked, error)
    probed = iter(_probed(engine, probes) if probes else [])
    return [next(mirrored if isinstance(one, InvitePayload) else probed) for one in asked]


def _probed(engine: Engine, probes: Sequence[Probe]) -> Answers:
    """Those that only ask are all told the same."""
    told: dict[tuple[str | None, bool], StoreFacts | OtherAssistantError] = {}
    try:
        for probe in probes:
            asked = (probe.assistant, probe.take_over)
            if asked not in told:
                told[asked] = _unless_unusable(engine, partial(_ask, engine, probe))
    except _UnusableError as error:
        return _all_refused(probes, error)
    return [_probe_answer(told[probe.assistant, probe.take_over]) for probe in probes]


def _ask(engine: Engine, probe: Probe) -> StoreFacts | OtherAssistantError:
    if probe.assistant is None:
        return probe_store(engine)
    try:
        return probe_store(engine, partial(claim, assistant=probe.assistant, take_over=probe.take_over))
    except OtherAssistantError as error:
        return error


def _probe_answer(told: StoreFacts | OtherAssistantError) -> dict[str, object]:
    return error_answer(str(told)) if isinstance(told, OtherAssistantError) else probe_answer(in_json(told))


def _all_refused(asked: Sequence[InvitePayload | Probe], error: _UnusableError) -> Answers:
    log.warning("store_unusable", reason=str(error), requests=len(asked))
    return [error_answer(str(error)) for _ in asked]


def _mirrored(engine: Engine, invites: Sequence[InvitePayload]) -> Answers:
    try:
        return _mirrored_together(engine, invites)
    except _UnusableError:
        raise
    except Exception as error:  # noqa: BLE001 - one request that nobody foresaw must not end the server for all
        if len(invites) == 1:
            reason = f"{type(error).__name__}: {reason_of(error)}"
            log.error("request_failed", invite=invites[0].id, reason=reason)
            return [error_answer(f"unexpected {reason}")]
    middle = len(invites) // 2
    return _mirrored(engine, invites[:middle]) + _mirrored(engine, invites[middle:])


def _mirrored_together(engine: Engine, invites: Sequence[InvitePayload]) -> Answers:
    results = _unless_unusable(engine, lambda: mirror_and_commit(engine, invites, first_created_at_wins=True))
    return [
        refusal_answer(result) if isinstance(result, MirrorRefusedError) else result_answer(invite.id)
        for invite, result in zip(invites, results, strict=True)
    ]


def _unless_unusable(engine: Engine, work: Callable[[], T]) -> T:
    try:
        return once_more_if_cut_off(work)
    except (DBAPIError, DatabaseMissingError, StoreReadOnlyError) as error:
        kind = "SQLiteError" if engine.dialect.name == "sqlite" else "DatabaseError"
        raise _UnusableError(f"{kind}: {reason_of(error)}") from error
