"""The one clock: every instant that touches a database or the wire comes from here, so a test can freeze it."""

import time


def now_ms() -> int:
    """Wall-clock time as integer epoch milliseconds. It can step back; nothing may rely on it growing."""
    return time.time_ns() // 1_000_000
