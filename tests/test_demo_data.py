"""`make demo-data`: the raw sample is what its script writes, and the embedded model gives traces worth the name."""

import json
import os
import shlex
import subprocess
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from transformers import AutoTokenizer

from skillfactory.cli import main
from skillfactory.embedded import located
from skillfactory.markup import parse
from skillfactory.prompts import load_phrases, load_reflection, load_variants
from skillfactory.records import Check, Kind, Verdict

ROOT = Path(__file__).parent.parent
RAW = ROOT / "examples/raw"
BRIEF = Path("brief")
QUESTIONS = 3
Rows = list[dict[str, Any]]


def rows(table: Path) -> Rows:
    """The rows of a folder of Parquet files."""
    found: Rows = pq.read_table(table).to_pylist()
    return found


def run_demo(folder: Path) -> str:
    """What the demo prints, run into `folder` as `make demo-data` runs it."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = ["bash", str(ROOT / "examples/demo-data.sh"), str(folder), str(QUESTIONS)]
    done = subprocess.run(command, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a small demo, and what it printed."""
    folder = tmp_path_factory.mktemp("demo")
    return folder, run_demo(folder)


def test_the_raw_sample_is_what_its_script_writes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(RAW / "make_sample.py"), str(tmp_path)], check=True)
    names = sorted(path.name for path in RAW.glob("*.parquet"))
    assert names == sorted(path.name for path in tmp_path.iterdir()) == ["data-schema.parquet", "readme-schema.parquet"]
    for name in names:
        assert pq.read_table(RAW / name).equals(pq.read_table(tmp_path / name))


def test_traces_come_out_of_both_schemas_and_every_broken_row_is_counted(demo: tuple[Path, str]) -> None:
    folder, _ = demo
    questions = {path: set(pq.read_table(path)["question"].to_pylist()) for path in RAW.glob("*.parquet")}
    asked = {row["conversations"][0]["content"] for row in rows(folder / "from-raw/traces")}
    assert all(len(asked & known) >= 10 for known in questions.values())
    drops = Counter(row["reason"] for row in rows(folder / "from-raw/drops") if row["stage"] == "rows")
    assert drops == {"null_response": 2, "empty_response": 1, "no_correctness": 2, "no_variant": 1}


def test_the_embedded_model_is_a_weak_solver_and_a_fair_judge(demo: tuple[Path, str]) -> None:
    folder, _ = demo
    attempts = {row["id"]: row for row in rows(folder / "run/attempts")}
    reflections = rows(folder / "run/reflections")
    checks = Counter(row["check"] for row in attempts.values())
    assert checks[Check.RIGHT] >= 3
    assert checks[Check.WRONG] >= 3
    agree = {Check.RIGHT: Verdict.CORRECT, Check.WRONG: Verdict.INCORRECT}
    valid = sum(agree.get(attempts[row["attempt_id"]]["check"]) == row["verdict"] for row in reflections)
    assert valid > 0.8 * len(reflections)
    assert len({row["text"] for row in attempts.values()}) > len(attempts) / 2
    assert len({row["variant"] for row in attempts.values()}) == 4


def test_every_trace_of_the_model_parses_and_ends_in_a_right_answer(demo: tuple[Path, str]) -> None:
    folder, _ = demo
    traces = rows(folder / "traces/traces")
    assert len(traces) >= 5
    for trace in traces:
        text = trace["conversations"][-1]["content"]
        parsed = parse(text)
        assert parsed.well_formed, parsed.problems
        segments = [segment for segment in trace["segments"] if segment["kind"] == Kind.ATTEMPT]
        assert segments[-1]["right"]
        assert f"<answer>{trace['answer']}</answer>" in text[segments[-1]["start"] : segments[-1]["end"]]
        assert 50 < trace["tokens"] <= 1024


def test_the_demo_says_where_things_are_and_they_are_there(demo: tuple[Path, str]) -> None:
    folder, printed = demo
    for name in ("from-raw", "run", "traces", "trl", "chat"):
        assert f"{folder}/{name}" in printed
        assert any((folder / name).iterdir())
    assert "<think>" in printed
    assert r"--layout \*C_full" in printed, "commands are printed as a shell takes them"


def test_the_same_seed_gives_the_same_texts_whatever_else_is_asked(demo: tuple[Path, str], tmp_path: Path) -> None:
    folder, printed = demo
    command = next(line for line in printed.splitlines() if line.startswith("$ skillfactory curate"))
    for told, instead in (
        (f"--questions {QUESTIONS}", "--questions 1"),
        (str(folder / "run"), str(tmp_path / "again")),
    ):
        assert told in command
        command = command.replace(told, instead)
    assert main(shlex.split(command)[2:]) == 0
    question = rows(tmp_path / "again/questions")[0]["id"]
    for table, name in (("attempts", "question_id"), ("reflections", "attempt_id")):
        again = rows(tmp_path / "again" / table)
        assert again
        assert again == [row for row in rows(folder / "run" / table) if f"{row[name]}/".startswith(f"{question}/")]


def test_a_second_demo_generates_nothing_anew_and_ends_in_the_same_traces(demo: tuple[Path, str]) -> None:
    folder, _ = demo
    before = {path: path.read_bytes() for path in folder.rglob("*.parquet")}
    printed = run_demo(folder)
    assert "nothing to do" in printed
    assert {path: path.read_bytes() for path in folder.rglob("*.parquet")} == before


def test_prompts_and_phrases_are_the_brief_ones(demo: tuple[Path, str]) -> None:
    folder, _ = demo
    prompts = json.loads((folder / "run/run.json").read_text("utf-8"))["settings"]["prompts"]
    assert prompts["variants"] == [asdict(variant) for variant in load_variants(BRIEF)]
    assert prompts["reflection"] == asdict(load_reflection(BRIEF))
    phrases = {phrase for kind in asdict(load_phrases(BRIEF)).values() for phrase in kind}
    used = {
        trace["conversations"][-1]["content"][segment["start"] : segment["end"]]
        for trace in rows(folder / "traces/traces")
        for segment in trace["segments"]
        if segment["kind"] in (Kind.GLUE, Kind.CLOSING)
    }
    assert used
    assert used <= phrases


def test_the_embedded_tokenizer_gives_back_what_the_model_writes(demo: tuple[Path, str]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(located("mini"))
    folder, _ = demo
    texts = [row["text"] for table in ("attempts", "reflections") for row in rows(folder / "run" / table)]
    for text in texts:
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
