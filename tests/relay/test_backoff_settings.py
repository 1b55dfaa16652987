"""Waits that grow and stay bounded, settings from the environment, and instants as an operator writes them."""

from datetime import timedelta

import pytest

from relay.backoff import Breaker, wait_before_next_attempt
from relay.errors import UsageError
from relay.instants import parse_instant
from relay.settings import Settings, load_settings

NOW = 1_778_681_460_000


@pytest.mark.parametrize("attempts", [1, 2, 5, 9, 10, 11, 500, 100_000])
def test_the_wait_before_the_next_attempt_lies_in_the_upper_half_of_its_exponential(attempts: int) -> None:
    settings = Settings(retry_first=timedelta(seconds=1), retry_longest=timedelta(minutes=10))
    top = min(600.0, 2.0 ** min(attempts - 1, 20))
    waits = {wait_before_next_attempt(attempts, settings).total_seconds() for _ in range(200)}
    assert top / 2 <= min(waits) < max(waits) <= top
    assert len(waits) > 100
    assert max(waits) - min(waits) > top / 4, "spread, so that those refused together do not return together"


def test_a_longest_wait_below_the_first_bounds_all() -> None:
    settings = Settings(retry_first=timedelta(seconds=100), retry_longest=timedelta(seconds=2))
    assert all(wait_before_next_attempt(n, settings) <= timedelta(seconds=2) for n in range(1, 50))


def test_a_breaker_closes_and_starts_again_with_a_short_wait() -> None:
    breaker = Breaker(Settings())
    assert not breaker.is_open
    for _ in range(12):
        breaker.failed("down")
    assert breaker.is_open
    assert breaker.reason == "down"
    breaker.close()
    assert not breaker.is_open
    assert breaker.failed("again") < timedelta(seconds=0.5)


def test_the_longest_probe_wait_is_a_setting() -> None:
    breaker = Breaker(Settings(probe_longest=timedelta(seconds=3)))
    assert max(breaker.failed() for _ in range(50)) == timedelta(seconds=3)


def test_settings_come_from_the_environment_and_the_command_line_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELAY_BATCH_SIZE", "7")
    monkeypatch.setenv("RELAY_RETRY_FIRST", "2.5")
    monkeypatch.setenv("RELAY_GATEWAY", "sqlite:///env.db")
    assert load_settings().gateway == "sqlite:///env.db"
    settings = load_settings(gateway="sqlite:///given.db", assistant_db=None)
    assert settings.gateway == "sqlite:///given.db"
    assert settings.assistant_db == "sqlite:///assistant.db"
    assert settings.batch_size == 7
    assert settings.retry_first == timedelta(seconds=2.5)


@pytest.mark.parametrize("name", [*Settings.model_fields])
def test_every_setting_can_be_given_in_the_environment(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name in ("assistant_db", "gateway"):
        monkeypatch.setenv(f"RELAY_{name.upper()}", "sqlite:///other.db")
        assert getattr(load_settings(), name) == "sqlite:///other.db"
        return
    monkeypatch.setenv(f"RELAY_{name.upper()}", "-x")
    with pytest.raises(UsageError, match=f"RELAY_{name.upper()}: "):
        load_settings()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90s", NOW - 90_000),
        ("15m", NOW - 900_000),
        ("2h", NOW - 7_200_000),
        ("7d", NOW - 604_800_000),
        ("999999999d", 0),
        ("2026-05-13T14:11:00+00:00", 1_778_681_460_000),
        ("2026-05-13T14:11:00.001Z", 1_778_681_460_001),
        ("2026-05-13T16:11:00+02:00", 1_778_681_460_000),
    ],
)
def test_an_instant_is_read_as_written(text: str, expected: int) -> None:
    assert parse_instant(text, NOW) == expected


@pytest.mark.parametrize("text", ["2026-05-13T14:11:00", "2026-05-13", "14:11"])
def test_a_naive_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"offset|no time"):
        parse_instant(text, NOW)


@pytest.mark.parametrize("text", ["", "m", "-5m", "5", "5M", "5w", "1.5h", "٣m", "15m ", "now", "9999999999d"])
def test_what_is_no_instant_is_refused_with_examples(text: str) -> None:
    with pytest.raises(UsageError, match="15m, 2h, 7d"):
        parse_instant(text, NOW)


@pytest.mark.parametrize("text", ["", "-1", "P7D", "1 h", "1:30", "soon"])
def test_what_is_no_duration_is_refused_with_examples(text: str) -> None:
    with pytest.raises(UsageError, match="RELAY_RETENTION: not a time such as 15, 15s, 10m, 2h or 7d"):
        load_settings(retention=text)
