"""The clocks: every instant that touches a database or the wire comes from `now_ms`, so a test can freeze it."""

import time

# Monotonic time stands still while the machine sleeps, which a lease does not. Only Linux has the other.
_BOOT_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now_ms() -> int:
    """Wall-clock time as integer epoch milliseconds. It can step back; nothing may rely on it growing."""
    return time.time_ns() // 1_000_000


def boot_seconds() -> float:
    """Seconds by a clock that nobody can set, and that goes on while the machine is suspended."""
    return time.clock_gettime(_BOOT_CLOCK)
