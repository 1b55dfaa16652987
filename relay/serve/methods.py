"""The table of methods that one side hands to its server; requests that wait together are answered together."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from relay.serve.wire import Request, read_request, reply

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Methods(Generic[T]):
    """Plain callables, so that a store can hand them over and import nothing of the server."""

    read: Mapping[str, Callable[[object], T]]
    """By the method's name, what a request asks with its params. These raise nothing: what the params are refused for
    is part of what ``answer`` is given."""
    answer: Callable[[Sequence[T]], Sequence[Mapping[str, object]]]
    """What a reply holds beside its id, for each that is asked, in order. Raises nothing either."""

    def replies(self, lines: Iterable[bytes]) -> list[bytes]:
        """One for each line, in order, and empty for a blank line. Lines that are no request are refused alone."""
        found = [read_request(line, self.read) for line in lines]
        requests = [one for one in found if isinstance(one, Request)]
        answers = iter(self.answer([one.asked for one in requests]) if requests else [])
        return [reply(one.id, next(answers)) if isinstance(one, Request) else one or b"" for one in found]
