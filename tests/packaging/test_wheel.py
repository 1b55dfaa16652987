"""What users install: the wheel, with what it depends on and nothing else."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


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

    assert tools.returncode != 0
    assert "transactional outbox" in shown.stdout
    assert (tmp_path / "gateway.db").exists(), ready.stdout
