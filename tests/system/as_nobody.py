"""Commands of a user who owns the assistant's database, and may read the gateway's file, which is root's."""

# Imported before: what that user cannot read cannot be imported afterwards.
import concurrent.futures.thread  # noqa: F401
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from shutil import rmtree

from tests.conftest import Stores, stores_at
from tests.socket.clients import NOBODY, become
from tests.system.processes import DEADLINE_SECONDS, FORKSERVER, Ended, run_here

# For a program that looks at who owns what it opens.
ENV = {"RELAY_TRUSTED_UID": "0"}


@contextmanager
def readable_gateway(mode: int, folder_of: int) -> Iterator[Stores]:
    """The gateway's file with ``mode``, in a folder of user ``folder_of``, and nobody using it."""
    folder = Path(tempfile.mkdtemp())
    try:
        folder.chmod(0o755)
        ours, theirs = folder / "a", folder / "g"
        ours.mkdir()
        theirs.mkdir()
        with stores_at(folder, f"sqlite:///{ours}/assistant.db", f"sqlite:///{theirs}/gateway.db") as made:
            made.create()
            made.source.dispose()
            made.mirror.dispose()
            for place in (ours, *ours.iterdir()):
                os.chown(place, NOBODY, NOBODY)
            os.chown(theirs, folder_of, folder_of)
            (theirs / "gateway.db").chmod(mode)
            yield made
    finally:
        rmtree(folder)


def start(stores: Stores, *args: str) -> tuple[BaseProcess, Path, Path]:
    out, err = stores.folder / "nobody.out", stores.folder / "nobody.err"
    process = FORKSERVER.Process(
        target=_run, args=(stores.source_url, stores.mirror_url, args, stores.folder, out, err)
    )
    process.start()
    return process, out, err


def run(stores: Stores, *args: str) -> Ended:
    process, out, err = start(stores, *args)
    process.join(DEADLINE_SECONDS)
    assert process.exitcode is not None
    return Ended(process.exitcode, out.read_text(), err.read_text())


def _run(source: str, mirror: str, args: tuple[str, ...], folder: Path, out: Path, err: Path) -> None:
    run_here(
        ("--assistant-db", source, "--gateway", mirror, *args), ENV, folder, out, err, lambda: become(NOBODY, folder)
    )
