"""What a package index shows of a release, and the licence that travels with it."""

import shutil
import subprocess
import sys
from email import message_from_bytes
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(300)
def test_the_wheel_carries_its_licence_and_says_what_it_is(tmp_path: Path) -> None:
    # A copy: building leaves files behind that a later build would take for sources.
    source = shutil.copytree(ROOT, tmp_path / "source", ignore=shutil.ignore_patterns(".*", "build", "*.egg-info"))
    build = [sys.executable, "-m", "build", "--wheel", "--outdir", str(tmp_path), str(source)]
    subprocess.run(build, check=True, capture_output=True)
    (path,) = tmp_path.glob("*.whl")

    with ZipFile(path) as wheel:
        (folder,) = {name.split("/")[0] for name in wheel.namelist() if ".dist-info/" in name}
        metadata = message_from_bytes(wheel.read(f"{folder}/METADATA"))
        licence = wheel.read(f"{folder}/licenses/LICENSE").decode()

    assert licence.startswith("MIT License\n")
    assert "the invite-relay authors" in licence
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Author"] == "the invite-relay authors"
    assert metadata["Keywords"]
    assert metadata.get_all("Classifier")
