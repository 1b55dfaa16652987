"""What the benchmarks make of their numbers: medians, who failed, aims met or missed, a p99 of enough samples."""

import pytest

from bench.contest import DidNotFinishError, Run, contest
from bench.figure import Contestant, Figure, Findings, latency, p50_p99, to_other, told
from bench.report import _page

ON = {"day": "2026-01-01", "commit": "abc"}


def rates(*each: float) -> "list[Run]":
    return [Run(one) for one in each]


def test_a_ratio_is_the_median_of_the_rounds_and_not_the_quotient_of_the_medians() -> None:
    ours, bound = iter(rates(10, 30, 40)), iter(rates(100, 40, 50))
    results = contest({"ours": lambda: next(ours), "bound": lambda: next(bound)}, rounds=3)
    assert (results.rate("ours"), results.rate("bound")) == (30, 50)
    assert results.ratio("ours", "bound") == 0.75
    assert results.lowest_and_highest("ours") == (10, 40)


def test_who_does_not_finish_is_told_and_the_others_go_on() -> None:
    def fail() -> Run:
        raise DidNotFinishError("no disk")

    results = contest({"a": lambda: Run(1), "broken": fail, "b": lambda: Run(2)}, rounds=2)
    assert {name: len(runs) for name, runs in results.runs.items()} == {"a": 2, "b": 2}
    assert results.failed == {"broken": "no disk"}


def test_all_have_their_turn_in_each_round_in_changing_orders() -> None:
    order: list[str] = []

    def turn(name: str) -> Run:
        order.append(name)
        return Run(1)

    contest({name: lambda name=name: turn(name) for name in "abcd"}, rounds=5)  # type: ignore[misc]
    rounds = ["".join(order[start : start + 4]) for start in range(0, 20, 4)]
    assert {"".join(sorted(one)) for one in rounds} == {"abcd"}
    assert len(set(rounds)) > 2


@pytest.mark.parametrize(
    ("number", "low", "high", "met"),
    [(1.0, 1.0, None, True), (0.99, 1.0, None, False), (2.0, None, 2.0, True), (2.01, None, 2.0, False)],
)
def test_an_aim_is_met_or_not(number: float, low: float | None, high: float | None, met: bool) -> None:
    assert Figure("f", number, at_least=low, at_most=high).met is met


def test_without_a_number_or_an_aim_nothing_is_met() -> None:
    assert Figure("f", None, at_least=1).met is None
    assert Figure("f", 1).met is None


def test_a_p99_needs_a_thousand_samples() -> None:
    few, many = [0.001] * 999, [0.001] * 1_000
    assert [one.name for one in to_other("x", few, few, 1, 1)] == ["x, p50"]
    assert [one.name for one in to_other("x", many, many, 1, 1)] == ["x, p50", "x, p99"]
    assert (latency("x", few).beside, latency("x", many).beside) == ("", "p99 1.00 ms")


def test_quantiles_are_in_milliseconds() -> None:
    p50, p99 = p50_p99([number / 1000 for number in range(1, 1001)])
    assert (round(p50, 1), round(p99, 1)) == (500.5, 991.0)


@pytest.mark.parametrize(("number", "words"), [(0.9994, "0.999"), (1.234, "1.23"), (12.34, "12.3"), (12345, "12,345")])
def test_a_number_is_told_with_three_digits_at_least(number: float, words: str) -> None:
    assert told(number) == words


def test_the_page_names_what_is_missing_who_failed_and_each_parts_commit() -> None:
    there = Contestant("sqlite", 20, "relay", 10.0, 0.5, 9.0, 11.0)
    failed = Contestant("sqlite", 20, "other", problem="it hung")
    found = Findings([Figure("drain", 0.5, at_least=1)], [failed, there])
    lines = _page({"draining": (found, ON)}, missing=["idle"]).splitlines()
    assert "| drain | 0.500 | ≥ 1 | no |" in lines
    assert "| draining | 2026-01-01 | abc |" in lines
    assert "| 20 | relay | 10.0/s | 9.00 to 11.0 | 0.500 |" in lines
    assert "| 20 | other | none: it hung |  |  |" in lines
    assert any("--write idle" in line for line in lines)
