"""The URL of a Unix socket."""

import os
from pathlib import Path

from relay.errors import UsageError
from relay.serve.listening import MAX_PATH_BYTES

UNIX = "unix://"
SOCKETS_FORM = "a socket is written unix:///absolute/path.sock"


def socket_path(url: str, option: str) -> Path:
    path = Path(url.removeprefix(UNIX))
    if not url.startswith(UNIX) or not path.is_absolute() or len(path.parts) < 2:
        raise UsageError(f"{option}: {SOCKETS_FORM}")
    if len(os.fsencode(path)) > MAX_PATH_BYTES:
        raise UsageError(f"{option}: a socket's path may have {MAX_PATH_BYTES} bytes, {path} has more")
    return path


def check_socket(url: str, option: str) -> None:
    socket_path(url, option)


def means_a_socket(url: str) -> bool:
    scheme, colon, _ = url.partition(":")
    return scheme.lower() == "unix" if colon else url.endswith(".sock")
