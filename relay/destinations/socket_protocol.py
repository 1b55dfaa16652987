"""What a relay says to a gateway's socket, and what it makes of the answers; no connection here."""

import json
import re
from dataclasses import dataclass

from gateway_store.socket.methods import FOREIGN_KEY, INVALID_PARAMS, METHOD, NEWER_PAYLOAD
from outbox import DELIVERED, Outcome, Verdict
from outbox.json_values import refuse_constant
from outbox.redact import redact_cut
from outbox.schema_version import NAME, schema_version, why_no_version
from relay.destinations.port import KNOWN_TO_ALL, Delivery, GatewayFacts
from relay.destinations.socket_connection import BrokenError
from relay.serve.connection import MAX_LINE
from relay.serve.wire import SPACES, UNKNOWN_METHOD

# What the store of the real gateway says of one row; its other errors are about the store.
OF_A_ROW = ("constraint failed", "datatype mismatch")
OF_THE_STORE = re.compile(
    r"SQLiteError|DatabaseError|SQLITE_|database is locked|database or disk is full|disk I/O|readonly database|"
    r"unable to open database|no such table",
    re.IGNORECASE,
)
MAX_DEPTH = 100
# The cure of what closes a topic, and of nothing else.
UPGRADE = "; upgrade the gateway"
# As SQLite and PostgreSQL say it, and a server of ours.
READ_ONLY = re.compile(r"readonly database|read-only", re.IGNORECASE)
# No invite has it.
PROBE_ID = "relay_probe"

_CUT_ANSWER = re.compile(rb'\s*\{\s*"id"\s*:\s*(?:"([^"\\]{1,40})"|(\d{1,40}))\s*,\s*"error"\s*:\s*"')
# Of a text that was cut off, so much is shown.
_SHOWN_OF_CUT = 8_000


class ConfusedAnswerError(Exception):
    """What was received answers nothing that was asked: the connection cannot be used any more."""


class _AnotherError(ValueError):
    """A payload that is not its message's."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer; ``error`` is None unless it is text."""

    id: str
    result: object
    error: str | None


@dataclass(frozen=True, slots=True)
class Odd:
    """An answer that is no known refusal: about the message, the store, or the gateway."""

    text: str

    @property
    def is_of_the_store(self) -> bool:
        return OF_THE_STORE.search(self.text) is not None


def probe_line() -> bytes:
    """Asks for a method that only our gateways have: any answer shows that requests are being answered."""
    return _line("probe", "relay_probe", "null")


def claim_line(assistant: str, take_over: bool) -> bytes:
    """Tells a gateway of ours whose invites it mirrors; it answers as to a probe, or refuses."""
    return _line("probe", "relay_claim", json.dumps({"assistant": assistant, "takeOver": take_over}))


def method_probe_line() -> bytes:
    """Asks for the method that mirrors, with an invite of which all but the id is missing: no gateway takes it."""
    return _line("probe", METHOD, json.dumps({"id": PROBE_ID}))


def method_missing(answer: Answer) -> str | None:
    """What a gateway says that was asked with `method_probe_line` and does not have the method."""
    return answer.error if answer.error is not None and answer.error.startswith(UNKNOWN_METHOD) else None


def is_answered_well(answer: Answer) -> bool:
    """Whether a gateway asked with `method_probe_line` shows that the method works."""
    if answer.error is not None:
        return answer.error.startswith(INVALID_PARAMS)
    return answer.result == {"id": PROBE_ID}


def closes_topic(answer: Answer) -> bool:
    """Whether a gateway asked with `method_probe_line` is too old for the method, or for every payload."""
    return answer.error is not None and answer.error.startswith((UNKNOWN_METHOD, NEWER_PAYLOAD))


def facts_in(answer: Answer) -> GatewayFacts:
    """What a gateway says of itself; one that knows no such question has no identity, and reads the first version.

    Raises `BrokenError` for any other answer: it says nothing of who the gateway is. Were it taken for one without an
    identity, the right gateway would look like another, and a relay would offer to leave it.
    """
    if answer.error is not None and answer.error.startswith(UNKNOWN_METHOD):
        return GatewayFacts()
    found = answer.result
    identity = found.get("identity") if isinstance(found, dict) else None
    if answer.error is not None or not isinstance(found, dict) or not isinstance(identity, str | None):
        raise BrokenError(f"the gateway answered: {answer.error or 'neither what it is nor an error'}")
    batches = found.get("batches")
    return GatewayFacts(
        identity=identity,
        drained_from=_text(found.get("drainedFrom")),
        batches=batches if type(batches) is int else 0,
        reads=schema_version(found.get(NAME)) or KNOWN_TO_ALL,
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def request_line(message: Delivery, request_id: str, reads: int) -> bytes | Verdict:
    """The request that mirrors ``message``, or the verdict on one that no gateway, or not this one, could read."""
    try:
        found = _DECODER.decode(message.payload)
        params = _on_one_line(message.payload, found, message.key)
    except _AnotherError as error:
        return Verdict(Outcome.REFUSED_FOR_GOOD, str(error))
    except (ValueError, RecursionError) as error:
        return Verdict(Outcome.REFUSED_FOR_GOOD, f"the payload is not JSON: {type(error).__name__}")
    said = found.get(NAME) if isinstance(found, dict) else None
    version = schema_version(said)
    if version is None:
        return Verdict(Outcome.REFUSED_FOR_GOOD, why_no_version(said))
    if version > reads:
        reason = f"newer than this gateway: schema version {version}, the gateway reads {reads}; upgrade the gateway"
        return Verdict(Outcome.TOPIC_CLOSED, reason, reads=reads)
    line = _line(request_id, METHOD, params)
    if len(line) > MAX_LINE:
        return Verdict(Outcome.REFUSED_FOR_GOOD, f"the request has {len(line)} bytes, more than {MAX_LINE}")
    return line


# As JSON.stringify writes one: an event has no id before its name, nor behind what was cut off.
EVENT = b'{"event":'


def read_answer(line: bytes, is_cut: bool) -> Answer | None:
    """What ``line`` answers; None for an event or a blank line, which answer nothing. Raises `ConfusedAnswerError`."""
    if is_cut:
        return None if line.startswith(EVENT) else _read_cut_answer(line)
    try:
        text = line.decode("utf-8", "surrogatepass").strip(SPACES)
        if not text:
            return None
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise ConfusedAnswerError("an answer that is not JSON") from None
    if not isinstance(found, dict):
        raise ConfusedAnswerError("an answer that is no object")
    if "event" in found and "id" not in found:
        return None
    error = found.get("error")
    # Some servers answer with the id as a number.
    return Answer(str(found.get("id")), found.get("result"), error if isinstance(error, str) else None)


def verdict_of(answer: Answer, message: Delivery) -> Verdict | Odd:
    """The verdict that ``answer`` to ``message`` means, as far as it is known here."""
    match answer.result, answer.error:
        case {"id": invite_id}, None if invite_id == message.key:
            return DELIVERED
        case _, str() as error if error.startswith(INVALID_PARAMS):
            return Verdict(Outcome.REFUSED_FOR_GOOD, error)
        case _, str() as error if error.startswith((UNKNOWN_METHOD, NEWER_PAYLOAD)):
            # No payload newer than it said that it reads was sent.
            return Verdict(Outcome.TOPIC_CLOSED, f"the gateway answered: {error}{UPGRADE}", reads=0)
        case _, str() as error if FOREIGN_KEY in error:
            return Verdict(Outcome.REFUSED_FOR_NOW, error)
        case _, str() as error if any(words in error for words in OF_A_ROW):
            return Verdict(Outcome.REFUSED_FOR_GOOD, error)
        case _, str() as error:
            return Odd(error)
        case _:
            return Odd("an answer with neither this invite's id nor an error")


def _read_cut_answer(line: bytes) -> Answer:
    """The beginning of an answer that went on for too long: its id and the first words of its error."""
    start = _CUT_ANSWER.match(line)
    if start is None:
        raise ConfusedAnswerError("an answer that is too long, and does not begin with the id and the error")
    text = line[start.end() : start.end() + _SHOWN_OF_CUT]
    # An escape cut in two is left out; the longest has twelve characters.
    text = re.sub(rb"\\[^\\]{0,11}\Z", b"", text)
    try:
        error = json.loads(b'"' + text + b'"')
    except ValueError:
        error = text.decode("ascii", "replace")
    return Answer((start[1] or start[2]).decode(), None, f"{redact_cut(error)} [cut off]")


def _line(request_id: str, method: str, params: str) -> bytes:
    return f'{{"id":"{request_id}","method":"{method}","params":{params}}}\n'.encode("ascii")


def _on_one_line(payload: str, found: object, key: str) -> str:
    """The payload as JSON that any gateway reads: what is no JSON would be answered with no id to tell which it was.

    ASCII only: the real gateway decodes each packet by itself and breaks characters that are split.
    """
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
