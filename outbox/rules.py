"""What no message may be: the rules of ``outbox_messages``, said to the caller before anything is written."""

from outbox.errors import InvalidMessageError
from outbox.message import LARGEST_INTEGER, MAX_KEPT_BYTES

MAX_TOPIC_BYTES = 1_024
MAX_KEY_BYTES = 65_536

_SHOWN = 80


def check_topic(topic: str) -> None:
    _check_text(None, "topic", topic, MAX_TOPIC_BYTES)
    if not topic:
        raise InvalidMessageError("cannot enqueue a message: its topic must not be empty")


def check_message(key: str, version: int, payload: str) -> None:
    """Raises `InvalidMessageError`, which shows the key, and never the payload."""
    _check_text(None, "key", key, MAX_KEY_BYTES)
    if not key:
        raise InvalidMessageError("cannot enqueue a message: its key must not be empty")
    # Made into words only where they are needed: this is run for every message.
    if not isinstance(version, int) or not -LARGEST_INTEGER <= version <= LARGEST_INTEGER:
        raise InvalidMessageError(f"cannot enqueue {_named(key)}: its version must be an integer within ±(2^53 - 1)")
    _check_text(key, "payload", payload, MAX_KEPT_BYTES)


def _check_text(key: str | None, name: str, value: str, most: int) -> None:
    if not isinstance(value, str):
        raise InvalidMessageError(f"cannot enqueue {_named(key)}: its {name} must be text")
    try:
        size = len(value) if value.isascii() else len(value.encode())
    except UnicodeEncodeError:
        raise InvalidMessageError(f"cannot enqueue {_named(key)}: its {name} has a lone surrogate") from None
    if size > most:
        raise InvalidMessageError(
            f"cannot enqueue {_named(key)}: its {name} must have at most {most} bytes, got {size}"
        )
    if "\0" in value:
        raise InvalidMessageError(f"cannot enqueue {_named(key)}: its {name} has a NUL")


def _named(key: str | None) -> str:
    if key is None:
        return "a message"
    return repr(key) if len(key) <= _SHOWN else f"{key[:_SHOWN]!r}…"
