"""Applying requests to the gateway's store, all in one transaction, and saying to each what came of it."""

from collections.abc import Sequence

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from gateway_store.errors import MirrorRefusedError
from gateway_store.mirror import mirror_and_commit
from gateway_store.wire import Request, error_reply, refusal_reply, result_reply
from outbox.engine import once_more_if_cut_off
from outbox.errors import DatabaseMissingError
from outbox.redact import reason_of

log = structlog.get_logger()


def answers(engine: Engine, requests: Sequence[Request]) -> list[bytes]:
    """A reply a request. Each is durable before its reply is sent; an unknown outcome is reported as an error."""
    if not requests:
        return []
    try:
        results = once_more_if_cut_off(
            lambda: mirror_and_commit(engine, [request.invite for request in requests], first_created_at_wins=True)
        )
    except (DBAPIError, DatabaseMissingError) as error:
        kind = "SQLiteError" if engine.dialect.name == "sqlite" else "DatabaseError"
        reason = f"{kind}: {reason_of(error)}"
        log.warning("store_unusable", reason=reason, requests=len(requests))
        return [error_reply(request.id, reason) for request in requests]
    return [
        refusal_reply(request.id, result)
        if isinstance(result, MirrorRefusedError)
        else result_reply(request.id, request.invite.id)
        for request, result in zip(requests, results, strict=True)
    ]
