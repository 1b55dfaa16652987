"""Both stores at URLs of any two kinds."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import assistant_store
import gateway_store
from outbox import open_engine
from tests.conftest import CONTACT, Stores


@contextmanager
def stores_at(folder: Path, source_url: str, mirror_url: str) -> Iterator[Stores]:
    source, mirror = open_engine(source_url), open_engine(mirror_url)
    try:
        assistant_store.upgrade(source)
        gateway_store.upgrade(mirror)
        made = Stores(folder, source_url, mirror_url, source, mirror)
        made.add_contact(CONTACT)
        yield made
    finally:
        source.dispose()
        mirror.dispose()
