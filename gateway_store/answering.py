"""Applying requests to the gateway's store, all in one transaction, and saying to each what came of it."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from gateway_store.errors import MirrorRefusedError, OtherAssistantError
from gateway_store.identity import StoreFacts, claim
from gateway_store.mirror import mirror_and_commit
from gateway_store.probe import StoreReadOnlyError, in_json, probe_store
from gateway_store.wire import Probe, Request, error_reply, probe_reply, refusal_reply, result_reply
from outbox.engine import once_more_if_cut_off
from outbox.errors import DatabaseMissingError
from outbox.redact import reason_of

log = structlog.get_logger()

T = TypeVar("T")


class _UnusableError(Exception):
    """The store cannot work now; the message is what clients are told."""


def answers(engine: Engine, asked: Sequence[Request | Probe]) -> list[bytes]:
    """A reply each, in order. What is mirrored is durable before its reply is sent; an unknown outcome is reported as
    an error."""
    requests = [one for one in asked if isinstance(one, Request)]
    probes = [one for one in asked if isinstance(one, Probe)]
    try:
        replies = iter(_mirrored(engine, requests) if requests else [])
    except _UnusableError as error:
        # To the probes as well: asking again would keep everybody waiting for the lock twice as long.
        return _all_refused(asked, error)
    probed = iter(_probed(engine, probes) if probes else [])
    return [next(replies if isinstance(one, Request) else probed) for one in asked]


def _probed(engine: Engine, probes: Sequence[Probe]) -> list[bytes]:
    """Those that only ask are all told the same."""
    told: dict[tuple[str | None, bool], StoreFacts | OtherAssistantError] = {}
    try:
        for probe in probes:
            asked = (probe.assistant, probe.take_over)
            if asked not in told:
                told[asked] = _unless_unusable(engine, partial(_ask, engine, probe))
    except _UnusableError as error:
        return _all_refused(probes, error)
    return [_probe_reply(probe, told[probe.assistant, probe.take_over]) for probe in probes]


def _ask(engine: Engine, probe: Probe) -> StoreFacts | OtherAssistantError:
    if probe.assistant is None:
        return probe_store(engine)
    try:
        return probe_store(engine, partial(claim, assistant=probe.assistant, take_over=probe.take_over))
    except OtherAssistantError as error:
        return error


def _probe_reply(probe: Probe, told: StoreFacts | OtherAssistantError) -> bytes:
    return (
        error_reply(probe.id, str(told))
        if isinstance(told, OtherAssistantError)
        else probe_reply(probe.id, in_json(told))
    )


def _all_refused(asked: Sequence[Request | Probe], error: _UnusableError) -> list[bytes]:
    log.warning("store_unusable", reason=str(error), requests=len(asked))
    return [error_reply(one.id, str(error)) for one in asked]


def _mirrored(engine: Engine, requests: Sequence[Request]) -> list[bytes]:
    try:
        return _mirrored_together(engine, requests)
    except _UnusableError:
        raise
    except Exception as error:  # noqa: BLE001 - one request that nobody foresaw must not end the server for all
        if len(requests) == 1:
            reason = f"{type(error).__name__}: {reason_of(error)}"
            log.error("request_failed", invite=requests[0].invite.id, reason=reason)
            return [error_reply(requests[0].id, f"unexpected {reason}")]
    middle = len(requests) // 2
    return _mirrored(engine, requests[:middle]) + _mirrored(engine, requests[middle:])


def _mirrored_together(engine: Engine, requests: Sequence[Request]) -> list[bytes]:
    invites = [request.invite for request in requests]
    results = _unless_unusable(engine, lambda: mirror_and_commit(engine, invites, first_created_at_wins=True))
    return [
        refusal_reply(request.id, result)
        if isinstance(result, MirrorRefusedError)
        else result_reply(request.id, request.invite.id)
        for request, result in zip(requests, results, strict=True)
    ]


def _unless_unusable(engine: Engine, work: Callable[[], T]) -> T:
    try:
        return once_more_if_cut_off(work)
    except (DBAPIError, DatabaseMissingError, StoreReadOnlyError) as error:
        kind = "SQLiteError" if engine.dialect.name == "sqlite" else "DatabaseError"
        raise _UnusableError(f"{kind}: {reason_of(error)}") from error
