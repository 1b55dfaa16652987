"""Messages that no destination is asked about: what they hold is nothing of their key's.

One check for every kind of destination. What is wrong with an invite itself is the gateway's to say.
"""

import json

from outbox import Message
from outbox.driver import is_plain_text
from outbox.message import LARGEST_INTEGER, NEVER_DELIVERED
from outbox.pages import shown_id


def why_undeliverable(message: Message) -> str | None:
    """The reason for which it is refused for good, or None."""
    problem = message.unreadable or _problem(message)
    return None if problem is None else NEVER_DELIVERED + problem


def _problem(message: Message) -> str | None:
    key, payload = message.key, message.payload
    if not is_plain_text(key):
        return f"its key {shown_id(key)} is no text that every database can hold"
    if abs(message.version) > LARGEST_INTEGER:
        # Delivered, it would supersede every other message of its key.
        return f"its version {message.version} is none that a row can have"
    # As the library writes it: the id comes first, and there is no other.
    if payload.startswith(f'{{"id":"{key}",') and payload.count('"id"') == 1 and "\\" not in payload:
        return None if payload.count('"schemaVersion"') <= 1 else _another_id(payload, key)
    if not payload.isascii() and not is_plain_text(payload):
        return "its payload is no text that every database can hold"
    return _another_id(payload, key)


def _another_id(payload: str, key: str) -> str | None:
    try:
        found = json.loads(payload, object_pairs_hook=list)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, list):
        return None
    # Every pair counts: of a key given twice one reader takes the first and another the last.
    if sum(isinstance(pair, tuple) and pair[0] == "schemaVersion" for pair in found) > 1:
        return "its payload says its schemaVersion twice"
    ids = [pair[1] for pair in found if isinstance(pair, tuple) and pair[0] == "id"]
    other = next((id_ for id_ in ids if isinstance(id_, str) and id_ != key), None)
    return None if other is None else f"its payload is invite {shown_id(other)}, another than its key"
