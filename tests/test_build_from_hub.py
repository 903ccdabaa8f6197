"""Raw data by its Hub id: the real client against a local stand-in of the hub, and no network at all."""

import json
import os
import subprocess
import sys
from pathlib import Path

from rawdata import raw_rows, write
from tiny_hub import TinyHub


def build(source: str, output: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "skillfactory", "build", source, "--output", str(output), "--json"]
    home = {"HF_HOME": str(output.parent / "hub"), "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=os.environ | home | environment)


def test_a_hub_id_gives_the_same_traces_as_the_files(tmp_path: Path) -> None:
    write(raw_rows(6), tmp_path / "data" / "data" / "train-00000-of-00001.parquet")
    (tmp_path / "data" / "README.md").write_text("# Raw data")
    local = build(str(tmp_path / "data"), tmp_path / "local")
    assert local.returncode == 0, local.stderr
    with TinyHub("someone/raw-data", tmp_path / "data") as hub:
        remote = build("someone/raw-data", tmp_path / "remote", HF_ENDPOINT=hub.url, HF_HUB_OFFLINE="0")
    assert remote.returncode == 0, remote.stderr
    assert json.loads(remote.stdout)["traces"] == json.loads(local.stdout)["traces"]
    parts = [(tmp_path / name / "traces" / "part-00000.parquet").read_bytes() for name in ("local", "remote")]
    assert parts[0] == parts[1]


def test_a_hub_id_without_a_network_is_an_error_that_says_both_readings(tmp_path: Path) -> None:
    done = build("someone/raw-data", tmp_path / "out", HF_HUB_OFFLINE="1")
    assert done.returncode == 2
    assert "someone/raw-data: no such local path, and the Hub data set 'someone/raw-data' can't be had" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
