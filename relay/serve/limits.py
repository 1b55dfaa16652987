"""How much a server bears from its clients, and for how long."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one server; its connections share what is said of all."""

    connections: int = 256
    """That have asked something. As many again may be in the middle of their first line, and as many yet silent."""
    held: int = 64 * 2**20
    """Bytes kept for all connections together; beyond them the one that holds most is dropped."""
    line_seconds: float = 5.0
    """For an unfinished line, from its first byte."""
    send_seconds: float = 30.0
    """For a client to fetch some of its answers."""
    idle_seconds: float = 5.0
    """After which a client that fetches none of its answers counts as idle, and may have to give way."""
    silent_seconds: float = 1.0
    """For a first line, while all places are taken."""
    last_answers_seconds: float = 10.0
    """For what was read before the stop: with the store locked, every batch that is left waits for it."""
    last_words_seconds: float = 2.0
    """For all clients to fetch what is left."""
