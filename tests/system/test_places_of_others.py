"""Every command refuses a place that another user could change: one line that names it, and exit code 4."""

import pytest

from tests.conftest import Stores
from tests.socket.clients import url
from tests.system.processes import relay, relay_at

pytestmark = pytest.mark.only("sqlite", because="a PostgreSQL server keeps its own files")

COMMANDS = [
    ("init",),
    ("run", "--until-empty"),
    ("verify",),
    ("replay", "--all"),
    ("dead", "list"),
    ("dead", "retry", "1"),
    ("dead", "drop", "1", "--reason", "r"),
    ("prune",),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("rights", [0o777, 0o1777], ids=oct)
def test_a_command_refuses_a_folder_that_others_can_write_to(
    stores: Stores, command: tuple[str, ...], rights: int
) -> None:
    stores.folder.chmod(rights)
    ended = relay(stores, *command)
    stores.folder.chmod(0o700)
    assert (ended.code, f"{stores.folder} can be written to by others" in ended.err) == (4, True)
    assert "Traceback" not in ended.err


def test_status_shows_the_place_of_a_gateway_and_is_4(stores: Stores) -> None:
    shared = stores.folder / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    for gateway in (f"sqlite:///{shared}/g.db", f"unix://{shared}/g.sock"):
        ended = relay_at(stores.folder, "--assistant-db", stores.source_url, "--gateway", gateway, "status")
        # A table breaks its lines anywhere.
        shown, wanted = (
            "".join(one.split()) for one in (ended.out + ended.err, f"{shared} can be written to by others")
        )
        assert (ended.code, wanted in shown) == (4, True)


def test_a_gateway_is_not_served_from_a_database_that_others_can_write_to(stores: Stores) -> None:
    path = stores.folder / "open.db"
    path.touch()
    path.chmod(0o666)
    ended = relay_at(stores.folder, "gateway", "--listen", url(stores), "--db", f"sqlite:///{path}")
    assert (ended.code, f"{path} can be written to by others" in ended.only_line) == (4, True)
