"""What a relay says to a gateway's socket, and what it makes of the answers; no connection here."""

import json

from gateway_store.connection import MAX_LINE
from gateway_store.payload import refuse_constant
from gateway_store.wire import FOREIGN_KEY, INVALID_PARAMS, METHOD
from outbox import DELIVERED, Message, Outcome, Verdict
from outbox.redact import redact_reason

# What the store of the real gateway says of one row; its other errors are about the store.
OF_A_ROW = ("constraint failed", "datatype mismatch")
MAX_DEPTH = 100

Answer = dict[str, object]


class ConfusedAnswerError(Exception):
    """What was received answers nothing that was asked: the connection cannot be used any more."""


class _AnotherError(ValueError):
    """A payload that is not its message's."""


def probe_line() -> bytes:
    """Asks for a method that no gateway has: any answer shows that requests are being answered."""
    return _line("probe", "relay_probe", "null")


def request_line(message: Message, request_id: str) -> bytes | Verdict:
    """The request that mirrors ``message``, or the verdict on one that no gateway could read."""
    try:
        params = _on_one_line(message.payload, message.key)
    except _AnotherError as error:
        return Verdict(Outcome.REFUSED_FOR_GOOD, str(error))
    except (ValueError, RecursionError) as error:
        return Verdict(Outcome.REFUSED_FOR_GOOD, f"the payload is not JSON: {type(error).__name__}")
    line = _line(request_id, METHOD, params)
    if len(line) > MAX_LINE:
        return Verdict(Outcome.REFUSED_FOR_GOOD, f"the request has {len(line)} bytes, more than {MAX_LINE}")
    return line


def read_answer(line: bytes) -> tuple[str, Answer]:
    """The id of the request that ``line`` answers, and the answer; raises `ConfusedAnswerError`."""
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError):
        raise ConfusedAnswerError("an answer that is not JSON") from None
    if not isinstance(answer, dict):
        raise ConfusedAnswerError("an answer that is no object")
    # Some servers answer with the id as a number.
    return str(answer.get("id")), answer


def verdict_of(answer: Answer, message: Message) -> Verdict:
    """The verdict that ``answer`` means; raises `ConfusedAnswerError`."""
    result, error = answer.get("result"), answer.get("error")
    match result, error:
        case {"id": invite_id}, None if invite_id == message.key:
            return DELIVERED
        case _, str() if error.startswith(INVALID_PARAMS):
            return Verdict(Outcome.REFUSED_FOR_GOOD, error)
        case _, str() if FOREIGN_KEY in error:
            return Verdict(Outcome.REFUSED_FOR_NOW, error)
        case _, str() if any(words in error for words in OF_A_ROW):
            return Verdict(Outcome.REFUSED_FOR_GOOD, error)
        case _, str():
            # A locked store, or a method it does not know yet: it, not the message, is the trouble.
            return Verdict(Outcome.UNREACHABLE, redact_reason(f"the gateway answered: {error}"))
        case _:
            raise ConfusedAnswerError("an answer with neither this invite's id nor an error")


def _line(request_id: str, method: str, params: str) -> bytes:
    return f'{{"id":"{request_id}","method":"{method}","params":{params}}}\n'.encode("ascii")


def _on_one_line(payload: str, key: str) -> str:
    """The payload as JSON that any gateway reads: what is no JSON would be answered with no id to tell which it was.

    ASCII only: the real gateway decodes each packet by itself and breaks characters that are split.
    """
    found = _DECODER.decode(payload)
    if _is_deep(found):
        raise RecursionError
    if isinstance(found, dict) and found.get("id", key) != key:
        # The answer would name that one, and look like an answer to nothing.
        raise _AnotherError("the payload is another invite than the message's key")
    if payload.isascii() and "\n" not in payload:
        return payload
    return json.dumps(found, separators=(",", ":"), allow_nan=False)


def _is_deep(value: object) -> bool:
    """Whether a gateway might find it too deeply nested to be read."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for one in level
            if isinstance(one, dict | list)
            for child in (one.values() if isinstance(one, dict) else one)
        ]
        if not level:
            return False
    return True


_DECODER = json.JSONDecoder(parse_constant=refuse_constant)
