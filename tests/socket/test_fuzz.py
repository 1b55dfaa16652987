"""A bounded run of the fuzzer on what a client may send, from the recorded exchanges on."""

import base64
import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest

RECORDINGS = sorted(Path(__file__).with_name("wire").glob("*.json"))
RUNS = 20_000
PLATFORM = (sys.platform, platform.machine())


@pytest.mark.skipif(PLATFORM != ("linux", "x86_64"), reason="atheris has no wheel for this machine")
def test_whatever_a_client_sends_is_answered_with_one_line_of_json_or_nothing(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for recording in RECORDINGS:
        chunks = [base64.b64decode(chunk["base64"]) for chunk in json.loads(recording.read_text())["request_chunks"]]
        (corpus / recording.stem).write_bytes(b"\xff" + b"".join(chunks))
    options = [f"-runs={RUNS}", "-seed=1", "-max_len=2048", "-timeout=20", f"-artifact_prefix={tmp_path}/"]
    ended = subprocess.run(
        [sys.executable, "-m", "tests.socket.fuzz_wire", corpus, *options],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert ended.returncode == 0, ended.stderr[-4000:]
    assert f"Done {RUNS} runs" in ended.stderr, ended.stderr[-4000:]
