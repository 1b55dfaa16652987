"""Instants as an operator writes them."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from relay.errors import UsageError

CLOCKS_DIFFER_BY_MS = 1_000
"""Two machines need not agree to the millisecond."""

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_AGO = re.compile(r"([0-9]{1,9})([smhd])")
_EXAMPLES = "write 15m, 2h, 7d, or ISO 8601 with an offset such as 2026-05-13T14:11:00+00:00 or ...Z"


def parse_instant(text: str, now: int) -> int:
    """Epoch ms of ``15m``, ``2h``, ``7d`` before ``now``, or of ISO 8601 with an offset; `UsageError` for all else."""
    ago = _AGO.fullmatch(text)
    if ago:
        return max(0, now - timedelta(**{_UNITS[ago[2]]: int(ago[1])}) // timedelta(milliseconds=1))
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is not a time; {_EXAMPLES}") from None
    if instant.tzinfo is None:
        raise UsageError(f"{text!r} has no offset, so it could mean any of many instants; {_EXAMPLES}")
    return int(instant.timestamp() * 1000)


def in_iso_8601(instant: object) -> str:
    """Epoch ms as an operator reads it, to the second; what is beyond any date, or no number, as it stands."""
    try:
        return datetime.fromtimestamp(instant / 1000, UTC).isoformat(timespec="seconds")  # type: ignore[operator]
    except (TypeError, ValueError, OverflowError, OSError):
        return f"{instant}, which is no date"


def clock_in_words(ahead_ms: int) -> str:
    """``3 s ahead of`` or ``3 s behind``."""
    return f"{abs(ahead_ms) / 1000:.0f} s {'ahead of' if ahead_ms > 0 else 'behind'}"


def with_iso_8601(row: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of ``row``, each instant among them followed by itself as an operator reads it."""
    found: dict[str, Any] = {}
    for name, value in row.items():
        found[name] = value
        if name.endswith(("_at", "_since")):
            found[f"{name}_iso"] = None if value is None else in_iso_8601(value)
    return found
