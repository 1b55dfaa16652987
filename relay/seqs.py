"""A set of message numbers in little memory: numbers given out together lie together."""

from bisect import bisect_right
from collections.abc import Iterable


class SeqSet:
    """Ranges, in order. Numbers may come in any order; the usual case is that they grow."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._count = 0

    def add(self, seqs: Iterable[int]) -> None:
        """Numbers not added before."""
        for seq in sorted(seqs):
            place = bisect_right(self._starts, seq)
            if place and self._ends[place - 1] == seq - 1:
                self._ends[place - 1] = seq
            else:
                self._starts.insert(place, seq)
                self._ends.insert(place, seq)
            self._count += 1

    def __contains__(self, seq: int) -> bool:
        place = bisect_right(self._starts, seq)
        return place > 0 and seq <= self._ends[place - 1]

    def __len__(self) -> int:
        return self._count
