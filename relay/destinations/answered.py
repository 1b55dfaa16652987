"""For kinds of destination that have all verdicts of a batch by the time it is sent."""

from outbox import Verdict
from relay.destinations.port import Handle


class Answered:
    """Verdicts that wait to be collected."""

    def __init__(self) -> None:
        self._verdicts: dict[Handle, list[Verdict]] = {}
        self._last = 0

    def keep(self, verdicts: list[Verdict]) -> Handle:
        self._last += 1
        handle = Handle(self._last)
        self._verdicts[handle] = verdicts
        return handle

    def collect(self, handle: Handle) -> list[Verdict]:
        """Raises `KeyError` for what was collected before, or never sent."""
        return self._verdicts.pop(handle)
