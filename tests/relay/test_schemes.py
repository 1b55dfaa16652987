"""What kind a destination is, is asked of one table: a new kind is a file of its own, and a line there."""

import re
from datetime import timedelta
from pathlib import Path

import pytest

import relay
from outbox import Destination, Outcome
from relay.destinations import schemes
from relay.destinations.kind import Kind
from relay.destinations.schemes import KINDS, kind_of, known_as, shown, shown_whole
from relay.errors import UnreachableError, UsageError
from relay.introduction import Introduction
from relay.make_stores import init_stores
from relay.open import answers_within, open_gateway, open_mirror, open_source, storage_warnings
from relay.settings import Settings
from tests.conftest import Stores
from tests.relay.rig import create_many, drain_all, draining, outcomes
from tests.relay.test_port import Broker

URL = "broker://user:secret@host/subject"


def without_secret(url: str) -> str:
    return url.replace("user:secret@", "")


@pytest.fixture
def settings(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """With a gateway of a kind that this release does not have."""
    kind = Kind(
        check=lambda _url, _option: None,
        open=lambda _url, _patience: Broker(),
        answers_within=lambda _url, patience: 7.0 + patience,
        shown=without_secret,
        shown_whole=without_secret,
    )
    monkeypatch.setitem(schemes.KINDS, "broker", kind)
    return Settings(assistant_db=stores.source_url, gateway=URL, gateway_timeout=timedelta(seconds=2))


def test_a_kind_that_the_table_has_is_opened_drained_into_and_shown_without_a_change(
    stores: Stores, settings: Settings
) -> None:
    create_many(stores, 5)
    gateway = open_gateway(settings)
    Introduction(stores.source, gateway, Destination.GATEWAY, known_as(URL)).make()
    with draining(stores, gateway) as drain:
        assert set(outcomes(drain_all(drain))) <= {Outcome.DELIVERED, Outcome.REFUSED_FOR_GOOD}
    assert "pending" not in stores.states()
    assert answers_within(settings) == 9.0
    assert {shown(URL), shown_whole(URL), known_as(URL)} == {"broker://host/subject"}


def test_what_is_no_database_is_neither_made_nor_examined_nor_compared(stores: Stores, settings: Settings) -> None:
    assert init_stores(settings) == []
    assert storage_warnings(settings) == []
    with pytest.raises(UnreachableError, match="takes invites but shows none"):
        open_mirror(settings, stores.source)


def test_of_a_missing_source_such_a_kind_is_not_asked(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(UnreachableError, match="`relay init` creates it"):
        open_source(settings.model_copy(update={"assistant_db": f"sqlite:///{tmp_path / 'none.db'}"}))


@pytest.mark.parametrize("url", ["unix:/run/g.sock", "UNIX:///run/g.sock", "g.sock"])
def test_a_socket_written_wrongly_is_told_how_one_is_written(url: str) -> None:
    with pytest.raises(UsageError, match=re.escape("--gateway: a socket is written unix:///absolute/path.sock")):
        kind_of(url)


@pytest.mark.parametrize("url", ["mysql://host/name", "nonsense", ""])
def test_what_is_of_no_kind_is_told_what_can_be_written(url: str) -> None:
    with pytest.raises(UsageError, match="--gateway"):
        kind_of(url).check(url, "--gateway")


def test_nothing_but_a_destination_looks_at_a_scheme() -> None:
    folder = Path(relay.__file__).parent
    asked = re.compile(rf"""startswith\((["'](?:{"|".join(KINDS)})|UNIX|DRIVER)""")
    asking = {path.name for path in folder.rglob("*.py") if asked.search(path.read_text())}
    assert asking == {"socket_url.py"}, "the pattern finds what it looks for, and only there"
