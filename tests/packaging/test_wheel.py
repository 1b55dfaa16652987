"""What users install: the wheel, with what it depends on and nothing else."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# What a daemon and a gateway do, and one mistake in its last line.
PROGRAM = """
from sqlalchemy.orm import Session

import gateway_store
from assistant_store import create_invite, find_invite_by_token, revoke_invite, upgrade
from outbox import OutboxFullError, UnsupportedDriverError, configure_engine, open_engine
from relay.settings import Settings

engine = open_engine("sqlite:///assistant.db")
configure_engine(engine)
upgrade(engine)
with Session(engine) as session, session.begin():
    created = create_invite(session, source_channel="telegram", contact_id="co-1")
    code: str = created.code
    token: str | None = created.raw_token
    again = find_invite_by_token(session, token or "")
    expires_at: int = created.invite.expires_at
    revoke_invite(session, created.invite.id)
    gateway_store.upsert_contact(session, id="co-1", display_name="Ada")
errors: tuple[type[Exception], ...] = (OutboxFullError, UnsupportedDriverError)
settings: Settings = Settings()
mistake: int = created.code
"""
MISTAKE = f"program.py:{PROGRAM.count(chr(10))}: error: Incompatible types in assignment"


@pytest.mark.timeout(300)
def test_the_wheel_alone_runs_the_relay(tmp_path: Path) -> None:
    # A copy: building leaves files behind that a later build would take for sources.
    source = shutil.copytree(ROOT, tmp_path / "source", ignore=shutil.ignore_patterns(".*", "build", "*.egg-info"))
    build = [sys.executable, "-m", "build", "--wheel", "--outdir", str(tmp_path), str(source)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    installed = tmp_path / "venv" / "bin"
    install = [str(installed / "pip"), "install", "-q", "-c", str(ROOT / "constraints.txt"), str(wheel)]
    subprocess.run(install, check=True, capture_output=True, cwd=tmp_path)

    tools = subprocess.run([installed / "python", "-c", "import pytest"], capture_output=True, check=False)
    shown = subprocess.run([installed / "relay", "--help"], capture_output=True, text=True, check=True, cwd=tmp_path)
    ready = subprocess.run([installed / "relay", "init"], capture_output=True, text=True, check=True, cwd=tmp_path)

    (tmp_path / "program.py").write_text(PROGRAM)
    check: list[str | Path] = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--config-file=",
        "--python-executable",
        installed / "python",
    ]
    checked = subprocess.run([*check, "program.py"], capture_output=True, text=True, check=False, cwd=tmp_path)

    assert tools.returncode != 0
    assert checked.stdout.startswith(MISTAKE), checked.stdout + checked.stderr
    assert "Found 1 error in 1 file" in checked.stdout
    assert "transactional outbox" in shown.stdout
    assert (tmp_path / "gateway.db").exists(), ready.stdout
