"""The whole way of the skill subgoals with the embedded model: curation, traces, export, fine-tuning."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from skillfactory.cli import main
from skillfactory.markup import parse
from skillfactory.records import Check, Kind
from skillfactory.train.examples import read

LAYOUT = "I{0..2} C -> answer; need=subgoals"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of the embedded model, its traces and an export."""
    folder = tmp_path_factory.mktemp("plans")
    commands = (
        f"curate --task countdown --level mini --option use_all=true --questions 4 --model mini --engine-option threads=1 "
        f"--variants original --variants-file brief --reflection-file brief --mode lazy --samples 6 --reflections 2 "
        f"--temperature 1 --top-p 1 --top-k 0 --repetition-penalty 1 --max-tokens 64 --output {folder}/run",
        f"build {folder}/run --output {folder}/traces --phrases brief --tokenizer mini",
        f"export {folder}/traces --to chat --output {folder}/chat",
    )
    for command in commands:
        layout = ["--layout", LAYOUT] if command.startswith("curate") else []
        assert main([*command.split(), *layout, "--quiet"]) == 0
    return folder


def rows(table: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(table).to_pylist()
    return found


def test_the_embedded_model_plans_when_asked_to(world: Path) -> None:
    """Only `original` was chosen: the skill's own variant was asked for as well, and it alone, as no other can have a plan."""
    attempts = rows(world / "run/attempts")
    assert {row["variant"] for row in attempts} == {"plan_and_execute"}
    assert sum(row["text"].startswith("Plan: combine") for row in attempts) > 0.8 * len(attempts)
    assert Counter(row["check"] for row in attempts)[Check.RIGHT] >= 1


def test_each_attempt_of_its_traces_stands_behind_its_plan(world: Path) -> None:
    traces = rows(world / "traces/traces")
    assert traces
    exported = [row["messages"][1]["content"] for row in rows(world / "chat/data")]
    texts = {row["id"]: row["text"] for row in rows(world / "run/attempts")}
    assert sorted(exported) == sorted(trace["conversations"][1]["content"] for trace in traces)
    for trace in traces:
        text = trace["conversations"][1]["content"]
        parsed = parse(text)
        assert parsed.well_formed
        kinds = [part.kind for part in parsed.parts if part.kind in (Kind.SKILL, Kind.ATTEMPT)]
        assert kinds == [Kind.SKILL, Kind.ATTEMPT] * len(trace["attempt_ids"])
        spans = {kind: [s for s in trace["segments"] if s["kind"] == kind] for kind in (Kind.SKILL, Kind.ATTEMPT)}
        for plan, work in zip(spans[Kind.SKILL], spans[Kind.ATTEMPT], strict=True):
            words = f"{text[plan['start'] : plan['end']]} {text[work['start'] : work['end']]}"
            assert words.split() == texts[work["attempt_id"]].split()


def test_a_model_learns_from_them_and_not_from_plans_of_wrong_attempts_if_these_are_masked(world: Path) -> None:
    wrong = 0
    for example in read(world / "traces", "wrong", 1, 0).examples:
        parts = [part for part in parse(example.response).parts if part.kind in (Kind.SKILL, Kind.ATTEMPT)]
        silent = [(part.start, part.end) for part in parts[:-2]]  # the last attempt is the right one
        assert list(example.silent) == silent
        wrong += len(silent)
    assert wrong
    options = "--model mini --epochs 1 --batch-size 2 --learning-rate 1e-4 --mask wrong --max-length 1024 --device cpu"
    assert main(["sft", f"{world}/traces", "--output", f"{world}/model", *options.split(), "--quiet"]) == 0
    account = json.loads((world / "model/training.json").read_text("utf-8"))
    assert account["finished"]
    assert account["trained_tokens"] > 0
