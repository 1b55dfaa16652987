"""Shard leases: the right to settle a shard's messages, proven by a token. Nothing is written to claim a message."""

import os
import secrets
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import NamedTuple

from sqlalchemy import Connection, Engine

from outbox import statements
from outbox.clock import now_ms
from outbox.counted import counted
from outbox.database.encoding import storable
from outbox.database.engine import once_more_if_cut_off, reading, writing
from outbox.fence import LeaseLostError, Proof
from outbox.message import SHARDS, Destination
from outbox.processes import host, host_name, may_live, started_ticks

LONGEST_LEASE = timedelta(seconds=60)
SEEN_WITHIN = timedelta(seconds=15)
FORGET_RELAYS_AFTER = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Relay:
    """One draining process as others see it, and what it says of itself."""

    id: str
    host: str
    """The kernel and namespaces in which its pid means something, `host`; '' where nothing tells."""
    host_name: str
    pid: int
    pid_started: int | None
    """`started_ticks`: a pid can be given to another process."""
    version: str
    gateway: str
    """What it drains into, fit to be shown."""
    started_at: int
    seen_at: int
    last_error: str | None
    down_since: int | None
    """Since when its gateway cannot be reached; None while it can."""
    last_delivered_at: int | None


class _Lease(NamedTuple):
    """One held shard: its token, and when that was last seen to stand."""

    token: str
    proof: Proof


@dataclass(frozen=True, slots=True)
class _Plan:
    """What balancing changes: shard to token each, and of the taken ones those left to lapse, by their last owner."""

    keep: dict[int, str]
    take: dict[int, str]
    give_up: dict[int, str]
    lapsed: dict[str, list[int]]
    is_empty: bool


@dataclass(slots=True)
class Leases:
    """The shards of one destination that one relay holds. `renew` may run in another thread than the rest."""

    engine: Engine
    length: timedelta
    destination: Destination
    owner: str = field(default_factory=lambda: f"{host_name()}-{os.getpid()}-{secrets.token_hex(4)}")
    version: str = "unknown"
    """Of the program, for others to see, as is what follows."""
    gateway: str = ""
    clock_ahead_ms: int = 0
    """Of this machine's clock, before the one that leases run by, when that was last read; negative for behind."""
    _noted: dict[str, str | int | None] = field(default_factory=dict)
    _held: dict[int, "_Lease"] = field(default_factory=dict)
    _mutex: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        if not timedelta(0) < self.length <= LONGEST_LEASE:
            raise ValueError(f"a lease must be longer than 0 and at most {LONGEST_LEASE}, got {self.length}")

    @property
    def tokens(self) -> dict[int, str]:
        """Shard to token, as last known here; only the database knows whether a token still stands."""
        with self._mutex:
            return {shard: lease.token for shard, lease in self._held.items()}

    def prove(self, tokens: Mapping[int, str]) -> None:
        """Raises `LeaseLostError` unless each of ``tokens``, by shard, was proved within the length of a lease.

        Asks no database, since it is called before each write to a destination; nobody takes a lease that has not run
        out.
        """
        with self._mutex:
            proofs = {self._held[shard].proof for shard in tokens if self._stands(shard, tokens[shard])}
            lost = [shard for shard in tokens if not self._stands(shard, tokens[shard])]
        if lost:
            raise LeaseLostError(f"the leases of {counted(len(lost), 'shard', 'shards')} in hand are lost")
        age = max((proof.age_seconds for proof in proofs), default=0.0)
        length = self.length.total_seconds()
        if age >= length:
            raise LeaseLostError(f"the leases in hand were last proved {age:.1f} s ago and are {length:g} s long")

    def _stands(self, shard: int, token: str) -> bool:
        return shard in self._held and self._held[shard].token == token

    def note(self, **told: str | int | None) -> None:
        """``last_error``, ``down_since``, ``last_delivered_at``: for others to see, written with the next renewal."""
        with self._mutex:
            self._noted |= told

    def renew(self) -> None:
        """Shows that this relay lives and extends what it holds; a lease taken by another is given up here."""
        proof = Proof.now()
        with writing(self.engine) as connection:
            now = statements.lease_clock(connection)
            self._show_alive(connection, now)
            held = self.tokens
            expires_at = now + _ms(self.length)
            # Locked by their numbers first, as settling does: an update locks them in an order of its own, and each of
            # the two could hold what the other waits for.
            standing = statements.tokens_standing(connection, self.destination, held)
            extended = [(shard, token, expires_at) for shard, token in held.items()]
            statements.extend_leases(connection, self.destination, extended)
        with self._mutex:
            for shard, token in held.items():
                # Only what was looked at: a shard that `balance` took since the commit above is not lost.
                if not self._stands(shard, token):
                    continue
                if standing.get(shard) == token:
                    self._held[shard] = _Lease(token, proof)
                else:
                    del self._held[shard]

    def balance(self) -> list[list[int]]:
        """Takes free and lapsed shards up to an even share, gives up what exceeds it; writes only if that is needed.

        Returns the shards that were left to lapse instead of released, grouped by the relay that held them: a message
        it had in hand may have killed it. Call between batches only, so that no shard in hand is given up.
        """
        with reading(self.engine) as connection:
            if self._plan(connection, statements.lease_clock(connection)).is_empty:
                return []
        proof = Proof.now()
        with writing(self.engine) as connection:
            statements.lock_leases(connection)
            now = statements.lease_clock(connection)
            self._show_alive(connection, now)
            plan = self._plan(connection, now)
            length = _ms(self.length)
            taken = [
                statements.Lease(shard, self.owner, token, now + length, length) for shard, token in plan.take.items()
            ]
            statements.put_leases(connection, self.destination, taken)
            statements.delete_leases(connection, self.destination, plan.give_up.items())
        with self._mutex:
            kept = {s: self._held[s] for s, t in plan.keep.items() if s not in plan.give_up and self._stands(s, t)}
            self._held = kept | {shard: _Lease(token, proof) for shard, token in plan.take.items()}
        return list(plan.lapsed.values())

    def _plan(self, connection: Connection, now: int) -> "_Plan":
        known = [Relay(**row) for row in statements.relays(connection, self.destination)]
        # Its process is gone for certain, so waiting for its leases to run out would only add to the lag.
        killed = {relay.id for relay in known if not process_may_live(relay)}
        leased = {lease.shard: lease for lease in statements.leases(connection, self.destination)}
        # One that froze keeps its share of the shards no longer than its leases.
        holding = {lease.owner for lease in leased.values() if not _lapsed(lease, now)}
        seen = {relay.id for relay in known if abs(now - relay.seen_at) <= _ms(self.length)}
        alive = sorted((holding | seen) - killed | {self.owner})
        held = self.tokens
        keep = {s: t for s, t in held.items() if s in leased and leased[s].token == t}
        share = fair_share(self.owner, alive)
        wanted = max(0, share - len(keep))
        # This relay's name with a token it does not hold comes with a database restored from a copy.
        gone = killed | {self.owner}
        lapsed = [s for s, one in leased.items() if s not in keep and (one.owner in gone or _lapsed(one, now))]
        free = [shard for shard in range(SHARDS) if shard not in leased]
        take = {shard: secrets.token_hex(16) for shard in (free + lapsed)[:wanted]}
        by_owner: dict[str, list[int]] = {}
        for shard in lapsed:
            if shard in take:
                by_owner.setdefault(leased[shard].owner, []).append(shard)
        give_up = dict(sorted(keep.items())[share:])
        # A relay that finds nothing free must still be seen, or nobody gives up a share for it.
        is_known = any(relay.id == self.owner for relay in known)
        is_empty = is_known and keep.keys() == held.keys() and not take and not give_up
        return _Plan(keep, take, give_up, by_owner, is_empty)

    def release(self) -> None:
        """Gives everything up and signs off; another relay can go on at once."""
        once_more_if_cut_off(self._sign_off)
        with self._mutex:
            self._held = {}

    def _sign_off(self) -> None:
        with writing(self.engine) as connection:
            statements.delete_leases(connection, self.destination, self.tokens.items())
            statements.delete_relay(connection, self.owner)

    def _show_alive(self, connection: Connection, now: int) -> None:
        self.clock_ahead_ms = now_ms() - now
        with self._mutex:
            noted = dict(self._noted)
        relay = Relay(
            id=self.owner,
            host=host() or "",
            host_name=host_name(),
            pid=os.getpid(),
            pid_started=started_ticks(os.getpid()),
            version=self.version,
            gateway=self.gateway,
            started_at=now,
            seen_at=now,
            last_error=None,
            down_since=None,
            last_delivered_at=None,
        )
        shown = asdict(relay) | noted
        # A name or an error that the table cannot keep must not cost the leases.
        kept = {name: storable(connection, value) if isinstance(value, str) else value for name, value in shown.items()}
        statements.put_relay(connection, self.destination, kept)
        statements.delete_relays_unseen_since(connection, self.destination, now - _ms(FORGET_RELAYS_AFTER))


def _lapsed(lease: statements.Lease, now: int) -> bool:
    """Run out, or further away than its own length: then it was written before the clock stepped back. No relay's is
    longer than the longest, whatever a row says."""
    return lease.expires_at <= now or lease.expires_at > now + min(lease.length_ms, _ms(LONGEST_LEASE))


def live_relays(connection: Connection, destination: Destination, now: int) -> list[Relay]:
    """Relays seen within 15 s whose process, where it can be looked up, exists."""
    return [relay for row in statements.relays(connection, destination) if _is_alive(relay := Relay(**row), now)]


def _is_alive(relay: Relay, now: int) -> bool:
    return abs(now - relay.seen_at) <= _ms(SEEN_WITHIN) and process_may_live(relay)


def process_may_live(relay: Relay) -> bool:
    """False only if the relay ran here and its process is certainly gone."""
    return may_live(relay.host, relay.pid, relay.pid_started)


def fair_share(owner: str, relays: list[str]) -> int:
    """How many of the 64 shards ``owner`` should hold among ``relays`` (sorted); the shares add up to 64."""
    position = relays.index(owner)
    return SHARDS // len(relays) + (1 if position < SHARDS % len(relays) else 0)


def _ms(duration: timedelta) -> int:
    return int(duration.total_seconds() * 1000)
