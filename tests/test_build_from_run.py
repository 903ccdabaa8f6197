"""From a curated run to traces: lazy and eager curation end in the very same ones."""

import json
import re
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pyarrow.parquet as pq
import pytest

from skillfactory.build import BuildConfig, BuildSummary, build
from skillfactory.curate import CurateConfig, Generation, Wanted
from skillfactory.curation import curate
from skillfactory.engines.scripted import ScriptedEngine, ScriptedOptions
from skillfactory.errors import InputError
from skillfactory.flow import Request
from skillfactory.patterns import NAMED


def model(request: Request) -> str:
    """A multiplier that is right half the time and a reviewer that is right three times in four, by the request's seed."""
    random = Random(request.seed)
    text = request.messages[-1][1]
    if "<verdict>" in text:
        word = random.choice(["Correct", "Incorrect"])
        return f"Let me see, {random.random()}.\n<verdict>{word}</verdict>"
    a, b = map(int, re.findall(r"\d+", text)[:2])
    return f"I try {random.random()}.\n<answer>{a * b + random.randint(0, 1)}</answer>" if random.random() < 0.9 else "no idea"


def curated(output: Path, mode: str, layout: str, **options: Any) -> Path:
    config = CurateConfig(
        output=output,
        task="multiplication",
        level="2",
        questions=options.pop("questions", 30),
        mode=mode,  # type: ignore[arg-type]
        samples=6,
        reflections=3,
        wanted=Wanted(layout=(layout,)),
        generation=Generation(engine="scripted"),
        **options,
    )
    curate(config, engine=lambda: ScriptedEngine(ScriptedOptions(answer=model)))
    return output


def built(run: Path, output: Path, *layout: str, **options: Any) -> tuple[BuildSummary, list[dict[str, Any]]]:
    summary = build(BuildConfig(inputs=(str(run),), output=output, layout=layout, **options))
    rows = [row for part in sorted((output / "traces").glob("*")) for row in pq.read_table(part).to_pylist()]
    return summary, sorted(rows, key=lambda row: str(row["trace_id"]))


@pytest.mark.parametrize("layout", [*NAMED, "stop = I* C -> answer; n=1..6"])
def test_lazy_and_eager_end_in_the_same_traces(tmp_path: Path, layout: str) -> None:
    lazy = curated(tmp_path / "lazy", "lazy", layout)
    eager = curated(tmp_path / "eager", "eager", layout)
    summary, few = built(lazy, tmp_path / "from-lazy")
    assert summary.notes == ()
    _, many = built(eager, tmp_path / "from-eager", layout)
    assert few == many
    assert few
    count = {
        run: pq.read_table(run / "attempts").num_rows + pq.read_table(run / "reflections").num_rows for run in (lazy, eager)
    }
    assert count[lazy] < count[eager]


def test_a_lazy_run_read_with_other_layouts_says_so(tmp_path: Path) -> None:
    lazy = curated(tmp_path / "lazy", "lazy", "0C")
    summary, _ = built(lazy, tmp_path / "out", "*C_full", seed=3)
    assert summary.notes == (
        "the run was curated lazily with other layout, seed: traces will lack attempts, and not at random",
    )


def test_the_account_of_a_run_adds_up(tmp_path: Path) -> None:
    eager = curated(tmp_path / "eager", "eager", "paper")
    summary, _ = built(eager, tmp_path / "out", "paper", variants=("original", "rephrase"))
    (attempts, _) = summary.funnels
    table = pq.read_table(eager / "attempts").to_pylist()
    assert attempts.requested == len(table)
    lacking = Counter("no_answer" if row["answer"] is None else "variant" for row in table if row["answer"] is None)
    assert attempts.dropped["no_answer"] == lacking["no_answer"]
    assert summary.questions == 30


def test_runs_and_raw_data_do_not_mix_and_an_empty_run_says_so(tmp_path: Path) -> None:
    run = curated(tmp_path / "run", "lazy", "0C")
    with pytest.raises(InputError, match="can't be mixed in one build"):
        build(BuildConfig(inputs=(str(run), str(tmp_path)), output=tmp_path / "out"))
    for part in (run / "questions").glob("*"):
        part.unlink()
    with pytest.raises(InputError, match="the run holds no finished part yet"):
        build(BuildConfig(inputs=(str(run),), output=tmp_path / "out"))


def test_two_runs_over_the_same_questions_are_refused_and_over_others_are_not(tmp_path: Path) -> None:
    runs = [curated(tmp_path / f"run{seed}", "lazy", "0C", seed=seed) for seed in (0, 0, 1)]
    again = curated(tmp_path / "again", "eager", "0C")
    for pair in ((runs[0], again), (runs[0], runs[0])):
        with pytest.raises(InputError, match="traces of both would have the same ids"):
            build(BuildConfig(inputs=tuple(map(str, pair)), output=tmp_path / "out"))
    assert build(BuildConfig(inputs=(str(again), str(runs[2])), output=tmp_path / "out", layout=("0C",))).questions == 60


def test_a_lazy_run_brings_its_seed_along(tmp_path: Path) -> None:
    lazy = curated(tmp_path / "lazy", "lazy", "*C", seed=5)
    summary, few = built(lazy, tmp_path / "out")
    assert summary.notes == ()
    _, many = built(curated(tmp_path / "eager", "eager", "*C", seed=5), tmp_path / "whole", "*C", seed=5)
    assert few == many


def test_variants_chosen_from_a_lazy_run_are_noted(tmp_path: Path) -> None:
    lazy = curated(tmp_path / "lazy", "lazy", "*C")
    summary, _ = built(lazy, tmp_path / "out", variants=("original",))
    assert "curated lazily with other variants" in summary.notes[0]


def test_an_unfinished_run_is_noted_and_parts_of_other_settings_are_left_out(tmp_path: Path) -> None:
    run = curated(tmp_path / "run", "eager", "0C", questions=100)
    state = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(state | {"finished": False}))
    summary, _ = built(run, tmp_path / "out", "0C")
    assert summary.notes == (f"{run} isn't finished under its present settings: 2 parts of it were used",)
    part = run / "completions" / "part-00001.parquet"
    table = pq.read_table(part)
    pq.write_table(table.replace_schema_metadata({b"stamp": b"another"}), part)
    summary, _ = built(run, tmp_path / "out2", "0C")
    assert summary.notes == (f"{run} isn't finished under its present settings: 1 parts of it were used",)
    assert summary.questions == 64
