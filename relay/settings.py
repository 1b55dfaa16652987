"""Every setting, in one place; each can be given in the environment as ``RELAY_`` and its name in capitals."""

import re
from collections.abc import Mapping
from datetime import timedelta
from difflib import get_close_matches
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

from outbox import RetryPolicy
from outbox.database.trust import NOBODY, uids_in
from outbox.leases import LONGEST_LEASE
from relay.errors import UsageError

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "": 1}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smhd]?)")


def _duration(value: object) -> object:
    """Text must be ``15``, ``0.5``, ``15s``, ``2h``, ``7d``; what is no text is pydantic's to judge."""
    if not isinstance(value, str):
        return value
    match = _DURATION.fullmatch(value)
    if match is None:
        raise PydanticCustomError("duration", "not a time such as 15, 15s, 10m, 2h or 7d")
    return timedelta(seconds=float(match[1]) * _UNITS[match[2]])


def _uids(value: str) -> str:
    try:
        uids_in(value)
    except ValueError as error:
        raise PydanticCustomError("uids", str(error)) from None
    return value


Duration = Annotated[timedelta, BeforeValidator(_duration)]
Positive = Annotated[Duration, Field(gt=timedelta(0), le=timedelta(days=3650))]


class Settings(BaseSettings):
    """Durations in the environment are seconds, ``15s``, ``10m``, ``2h`` or ``7d``."""

    model_config = SettingsConfigDict(env_prefix="RELAY_", frozen=True, hide_input_in_errors=True)

    assistant_db: str = "sqlite:///assistant.db"
    """The daemon's database."""
    gateway: str = "sqlite:///gateway.db"
    """The gateway: its database, or the socket that it serves, ``unix:///path/to.sock``."""
    batch_size: Annotated[int, Field(ge=1, le=1_000)] = 500
    """Messages read, delivered and settled together."""
    poll_interval: Positive = timedelta(seconds=2)
    """How long a message can wait whose wake-up was lost, and how often due retries are looked for."""
    lease: Annotated[Duration, Field(ge=timedelta(seconds=1), le=LONGEST_LEASE)] = timedelta(seconds=15)
    """How long a relay that froze keeps its shards; renewed every third of it, at least every 5 s."""
    gateway_timeout: Annotated[Duration, Field(gt=timedelta(0), le=timedelta(seconds=2))] = timedelta(milliseconds=500)
    """How long one delivery waits for the gateway's write lock."""
    retry_first: Positive = timedelta(seconds=1)
    """The wait after the first refusal; doubles with each further one, with jitter."""
    retry_longest: Positive = timedelta(minutes=10)
    """The longest wait between two attempts of a refused message."""
    probe_longest: Positive = timedelta(seconds=30)
    """The longest wait between two probes of a gateway that cannot be reached."""
    give_up_after: Positive = timedelta(hours=24)
    """A message that was refused for now for this long, outages not counted, ends as dead."""
    retention: Positive = timedelta(days=7)
    """How long delivered and superseded messages are kept."""
    prune_interval: Positive = timedelta(hours=1)
    drift_check_interval: Positive = timedelta(hours=6)
    """How often the relay compares both stores and logs what differs."""
    trusted_uid: Annotated[str, AfterValidator(_uids)] = NOBODY
    """Other users whose files and folders are used, by number; read from the environment by `outbox.database.trust`."""
    log_format: Annotated[str, Field(pattern="^(text|json)$")] = "text"

    @property
    def retry_policy(self) -> RetryPolicy:
        return RetryPolicy(give_up_after=self.give_up_after, longest_wait=self.retry_longest)


def unknown_settings(environ: Mapping[str, str]) -> list[str]:
    """For each variable that looks like a setting and is none: its name, and the one that was probably meant."""
    known = {name.upper() for name in Settings.model_fields}
    found = []
    for variable in sorted(environ):
        # Settings are read whatever the case of their variables.
        prefix, _, name = variable.upper().partition("_")
        if prefix == "RELAY" and name not in known:
            nearest = get_close_matches(name, known, n=1)
            meant = f"; did you mean RELAY_{nearest[0]}?" if nearest else ""
            found.append(f"{variable} is no setting and is ignored{meant}")
    return found


def load_settings(**given: str | None) -> Settings:
    """Settings from the environment, overridden by what was given on the command line; `UsageError` names a bad one."""
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as error:
        words = "; ".join(f"RELAY_{'.'.join(map(str, one['loc'])).upper()}: {one['msg']}" for one in error.errors())
        raise UsageError(f"bad setting: {words}") from None
