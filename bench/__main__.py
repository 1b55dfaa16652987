"""`make bench`: runs every benchmark and prints one table. Linux only: it reads /proc."""

import structlog

from bench import bloat, creating, draining, idle, mirroring, postgresql, serving, stalling
from relay.console import Printer


def main() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    printer = Printer(as_json=False)
    figures: dict[str, str] = {}
    for name, measure in (
        ("creating invites", creating.measure),
        ("commit to mirrored", mirroring.measure),
        ("draining", draining.measure),
        ("the socket", serving.measure),
        ("the socket beside stalled clients", stalling.measure),
        ("idling", idle.measure),
        ("PostgreSQL", postgresql.measure),
        ("PostgreSQL with an old snapshot", bloat.measure),
    ):
        printer.say(f"measuring: {name}")
        figures |= measure()
    printer.record(figures, "Figures")


main()
