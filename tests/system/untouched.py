"""A folder seen from outside: what is in it, byte for byte, who may read it, and when it was written.

Not what is in a ``-shm``, where every reader of a log notes how far it reads.
"""

from pathlib import Path

OURS = ("command.out", "command.err")
"""What the tests themselves write there."""


def contents(folder: Path) -> dict[str, tuple[bytes, int, int]]:
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in OURS:
            seen, is_shared = path.stat(), path.name.endswith("-shm")
            written = (b"", 0) if is_shared else (path.read_bytes(), seen.st_mtime_ns)
            found[str(path.relative_to(folder))] = (written[0], seen.st_mode, written[1])
    return found
