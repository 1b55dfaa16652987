"""Messages that no destination is asked about: what they hold is nothing of their key's.

One check for every kind of destination. What is wrong with an invite itself is the gateway's to say.
"""

import json

from outbox import Message
from outbox.database.driver import is_plain_text
from outbox.json_values import json_integer
from outbox.message import LARGEST_INTEGER, NEVER_DELIVERED
from outbox.pages import shown_id
from outbox.schema_version import NAME, said_in, schema_version, why_no_version

_VERSION_NAME = f'"{NAME}"'
_USUAL_END = f"{_VERSION_NAME}:1}}"


def why_undeliverable(message: Message) -> str | None:
    """The reason for which it is refused for good, or None."""
    problem = message.unreadable or _problem(message)
    if problem is not None:
        return NEVER_DELIVERED + problem
    if _is_as_the_library_writes(message):
        return None
    if not message.payload.isascii() and not is_plain_text(message.payload):
        return NEVER_DELIVERED + "its payload is no text that every database can hold"
    return _problem_of_pairs(message)


def _problem(message: Message) -> str | None:
    if not is_plain_text(message.key):
        return f"its key {shown_id(message.key)} is no text that every database can hold"
    if abs(message.version) > LARGEST_INTEGER:
        # Delivered, it would supersede every other message of its key.
        return f"its version {message.version} is none that a row can have"
    return None


def _is_as_the_library_writes(message: Message) -> bool:
    """The id comes first and the version last, or there is none; and there is no other of either."""
    payload = message.payload
    if not payload.startswith(f'{{"id":"{message.key}",') or payload.count('"id"') != 1 or "\\" in payload:
        return False
    versions = payload.count(_VERSION_NAME)
    return versions == 0 or (versions == 1 and payload.endswith(_USUAL_END))


def _problem_of_pairs(message: Message) -> str | None:
    """Of one that is no JSON, none: that is the gateway's to say."""
    try:
        found = json.loads(message.payload, object_pairs_hook=list, parse_int=json_integer)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, list):
        return None
    # Every pair counts: of a key given twice one reader takes the first and another the last.
    versions = said_in(found)
    if len(versions) > 1:
        return NEVER_DELIVERED + "its payload says its schemaVersion twice"
    ids = [pair[1] for pair in found if isinstance(pair, tuple) and pair[0] == "id"]
    other = next((id_ for id_ in ids if isinstance(id_, str) and id_ != message.key), None)
    if other is not None:
        return NEVER_DELIVERED + f"its payload is invite {shown_id(other)}, another than its key"
    if versions and schema_version(versions[0]) is None:
        # It is its key's own, so an older message of the key must not be delivered in its place.
        return why_no_version(versions[0])
    return None
