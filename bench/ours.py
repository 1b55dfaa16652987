"""What `relay run --until-empty` does, in a process of its own: prints how long the draining took, and its memory.

python -m bench.ours ASSISTANT_DB GATEWAY
"""

import json
import sys
import time
from pathlib import Path

from relay.logs import configure_logs
from relay.open import open_gateway, open_source
from relay.settings import Settings
from relay.worker import Worker


def main(assistant_db: str, gateway_url: str) -> None:
    settings = Settings(assistant_db=assistant_db, gateway=gateway_url)
    configure_logs(settings.log_format)
    source, gateway = open_source(settings), open_gateway(settings)
    started = time.perf_counter()
    Worker(source, gateway, settings).run(until_empty=True)
    seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "peak_mib": _peak_mib()}))


def _peak_mib() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


main(*sys.argv[1:])
