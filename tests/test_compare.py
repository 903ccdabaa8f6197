"""Laws of comparisons: differences and p-values are those of other programs, questions are those that all share, and so on."""

import json
import re
import shutil
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import solver
from scipy import stats as scipy_stats
from test_build_from_run import curated
from test_run import contents

from skillfactory.cli import main
from skillfactory.comparing import CompareConfig, Compared, compare
from skillfactory.comparing.page import chance, page
from skillfactory.comparing.questions import Question
from skillfactory.engines.scripted import ScriptedEngine, ScriptedOptions
from skillfactory.errors import ConfigError, InputError, SkillFactoryError
from skillfactory.evaluate import Answering, EvaluateConfig, Plain
from skillfactory.evaluation import SCHEMAS, evaluate, question_shares
from skillfactory.flow import Request
from skillfactory.gathering.questions import question_means
from skillfactory.gathering.scores import Judged, Row, comparison, groups_of
from skillfactory.seeds import rng

SUITE = """
groups:
  - {name: two, kind: in-domain, task: multiplication, level: 2, questions: 40, samples: 2, max_tokens: 100}
  - {name: three, kind: harder, task: multiplication, level: 3, questions: 30, samples: 2, max_tokens: 100}
  - {name: four, kind: harder, task: multiplication, level: 4, questions: 20, samples: 1, max_tokens: 100}
"""
COLUMNS = ["two", "mean harder", "three", "four"]
Evaluated = Callable[..., Path]


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    """A function that evaluates a scripted model which is right so often, once for each of its arguments."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "suite.yaml").write_text(SUITE, "utf-8")
    done: dict[str, Path] = {}

    def run(name: str, rate: float, words: int = 5, **changes: Any) -> Path:
        def model(request: Request) -> str:
            random = rng(request.seed, name)
            text = solver.attempt(request.messages[-1][1], random.random() < rate, 1 + random.getrandbits(16) * 11)
            return f"{'word ' * words}{text}"

        if name not in done:
            answering = Answering("scripted", {"answer": "solver:answer"})
            config = replace(EvaluateConfig(name, folder / name, str(folder / "suite.yaml"), generation=answering), **changes)
            evaluate(config, engine=lambda: ScriptedEngine(ScriptedOptions(model)))
            done[name] = config.output
        return done[name]

    return run


@pytest.fixture
def base(evaluated: Evaluated) -> Path:
    return evaluated("base", 0.3)


@pytest.fixture
def better(evaluated: Evaluated) -> Path:
    return evaluated("better", 0.6, words=30)


def compared(*runs: object, **options: Any) -> Compared:
    return compare(CompareConfig(tuple(map(str, runs)), **options))


def pair(found: Compared, arm: str, column: str, baseline: str = "base") -> dict[str, Any]:
    """The numbers of one comparison."""
    wanted = (arm, baseline, column)
    return next(each for each in found.values["pairs"] if (each["arm"], each["baseline"], each["column"]) == wanted)


def test_a_difference_has_the_interval_and_the_p_value_of_a_paired_t_test_and_a_little_more_doubt(
    base: Path, better: Path
) -> None:
    found = compared(base, better)
    for group in ("two", "three", "four"):
        ours, theirs = (np.array(list(question_shares(run)[group].values())) for run in (better, base))
        other = scipy_stats.ttest_rel(ours, theirs)
        low, high = other.confidence_interval()
        numbers = pair(found, "better", group)
        assert other.pvalue < numbers["p"] < 2 * other.pvalue
        right = numbers["right"]
        assert right["value"] == pytest.approx((ours - theirs).mean())
        assert right["low"] < low < high < right["high"]
        assert right["high"] - right["low"] < 1.2 * (high - low)
        assert numbers["ratio"]["value"] == pytest.approx(ours.mean() / theirs.mean())
        counts = [int((ours > theirs).sum()), int((ours < theirs).sum()), int((ours == theirs).sum())]
        assert [numbers[name] for name in ("won", "lost", "level")] == counts
        assert numbers["questions"] == sum(counts) == len(ours)


def test_the_table_holds_the_means_of_kinds_where_every_group_counts_the_same(base: Path, better: Path) -> None:
    found = compared(base, better)
    cells = {(cell["arm"], cell["column"]): cell for cell in found.values["cells"]}
    for name, run in (("base", base), ("better", better)):
        numbers = json.loads((run / "evaluation.json").read_text("utf-8"))
        told = {group["name"]: group for group in numbers["groups"]} | {"mean harder": numbers["kinds"][1]}
        for column in COLUMNS:
            cell = cells[name, column]
            assert cell["right"]["value"] == pytest.approx(told[column]["accuracy"]["value"])
            assert cell["tokens"]["value"] == pytest.approx(told[column]["tokens"])
            assert cell["answers"]["value"] == pytest.approx(told[column]["answers"])
    assert list(found.values["columns"]) == COLUMNS
    assert re.search(r"\| accuracy, % \(95 % interval\) \| +two \| +mean harder \| +three \| +four \|", found.text)


def test_tokens_and_answers_are_compared_over_the_same_questions(base: Path, better: Path) -> None:
    numbers = pair(compared(base, better), "better", "two")
    means = [question_means(run) for run in (better, base)]
    for measure in ("tokens", "answers"):
        one, other = (np.array(list(found[measure]["two"].values())) for found in means)
        low, high = scipy_stats.ttest_rel(one, other).confidence_interval() if measure == "tokens" else (0.0, 0.0)
        told = numbers[measure]
        assert (told["value"], told["low"], told["high"]) == pytest.approx(((one - other).mean(), low, high), abs=1e-3)
    assert numbers["tokens"]["value"] > 20
    assert numbers["answers"]["value"] == 0


def test_the_family_of_the_correction_is_all_that_the_table_shows(base: Path, better: Path, evaluated: Evaluated) -> None:
    third = evaluated("third", 0.35)
    found = compared(base, better, third, all_pairs=True)
    order = sorted(found.values["pairs"], key=lambda each: each["p"])
    assert len(order) == found.values["family"]["comparisons"] == 3 * 4
    assert order[0]["p_holm"] == pytest.approx(12 * order[0]["p"])
    assert all(each["p_holm"] >= each["p"] for each in order)
    assert [each["p_holm"] for each in order] == sorted(each["p_holm"] for each in order)
    assert "for all 12 comparisons of this table (3 pairs of arms, 4 columns)" in found.text
    fewer = compared(base, better, third, groups=("mean harder",))
    for label in (("harder, mean",), ("harder", "mean")):  # as reports call it; a command line is cut at commas
        assert compared(base, better, third, groups=label).text == fewer.text
    assert {each["column"] for each in fewer.values["pairs"]} == {"mean harder"}
    assert pair(fewer, "better", "mean harder")["p_holm"] == 2 * pair(found, "better", "mean harder")["p"]


def test_the_first_arm_is_the_baseline_unless_one_is_named(base: Path, better: Path, evaluated: Evaluated) -> None:
    third = evaluated("third", 0.35)
    runs = (base, better, third)
    assert {(each["arm"], each["baseline"]) for each in compared(*runs).values["pairs"]} == {
        ("better", "base"),
        ("third", "base"),
    }
    named = compared(*runs, baseline="third", arms=("third", "base"))
    assert {(each["arm"], each["baseline"]) for each in named.values["pairs"]} == {("base", "third")}
    everyone = compared(*runs, all_pairs=True)
    told = [(each["arm"], each["baseline"]) for each in everyone.values["pairs"]]
    assert list(dict.fromkeys(told)) == [("better", "base"), ("third", "base"), ("third", "better")]


def test_swapped_arms_swap_the_sign_and_keep_the_p_value(base: Path, better: Path) -> None:
    one, other = compared(base, better), compared(base, better, baseline="better")
    for column in COLUMNS:
        here, there = pair(one, "better", column), pair(other, "base", column, "better")
        assert here["right"]["value"] == pytest.approx(-there["right"]["value"])
        assert here["p"] == pytest.approx(there["p"])
        assert (here["won"], here["lost"], here["level"]) == (there["lost"], there["won"], there["level"])


def test_a_run_against_itself_differs_on_nothing(base: Path) -> None:
    found = compared(f"base={base}", f"again={base}")
    numbers = pair(found, "again", "mean harder")
    assert numbers["right"]["value"] == 0
    assert -0.15 < numbers["right"]["low"] == -numbers["right"]["high"] < 0  # 50 questions can't show that all agree
    assert (numbers["p"], numbers["p_holm"], numbers["won"], numbers["lost"]) == (1.0, 1.0, 0, 0)
    assert found.values["questions"] == []
    assert "won and lost by the most" not in found.text


def test_only_common_questions_count_and_the_rest_is_told(base: Path, better: Path, evaluated: Evaluated) -> None:
    few = evaluated("few", 0.6, questions=12)
    found = compared(base, few)
    assert found.values["notes"][:3] == [
        "two: 12 questions are common to all arms and compared, of 40 of base",
        "three: 12 questions are common to all arms and compared, of 30 of base",
        "four: 12 questions are common to all arms and compared, of 20 of base",
    ]
    assert {cell["questions"] for cell in found.values["cells"]} == {12, 24}
    ours, theirs = question_shares(few)["two"], question_shares(base)["two"]
    assert pair(found, "few", "two")["right"]["value"] == pytest.approx(np.mean([ours[name] - theirs[name] for name in ours]))
    assert compared(base, better).values["notes"] == []


def test_runs_without_a_common_question_are_refused(base: Path, evaluated: Evaluated) -> None:
    other = evaluated("dev", 0.5, part="dev", questions=5)
    with pytest.raises(
        InputError, match="the runs have no question in common: expected evaluations of one suite, part and seed"
    ):
        compared(base, other)


def test_a_group_that_an_arm_was_not_asked_leaves_its_other_groups(base: Path, evaluated: Evaluated) -> None:
    part = evaluated("part", 0.6, groups=("two", "three"))
    found = compared(base, part)
    assert {each["column"] for each in found.values["pairs"]} == {"two", "three"}
    assert {cell["column"] for cell in found.values["cells"] if cell["arm"] == "base"} == set(COLUMNS)


def test_a_group_that_one_seed_was_not_asked_leaves_the_arm_out_of_its_columns(base: Path, evaluated: Evaluated) -> None:
    part, third = evaluated("part", 0.6, groups=("two", "three")), evaluated("third", 0.35)
    found = compared(base, f"ours={base},{part}", third)
    columns = {arm: {each["column"] for each in found.values["pairs"] if each["arm"] == arm} for arm in ("ours", "third")}
    assert columns == {"ours": {"two", "three"}, "third": set(COLUMNS)}
    assert found.values["notes"] == ["four: left out for ours, which was not asked it on all seeds"]


def test_what_was_asked_differently_is_told(base: Path, evaluated: Evaluated) -> None:
    other = evaluated("hot", 0.5, samples=3, decoding=Plain(temperature=0.5, max_tokens=90))
    notes = compared(base, other).values["notes"]
    assert notes == [
        "temperature differs: 1.0 for base; 0.5 for hot",
        "samples of two, three differs: 2 for base; 3 for hot",
        "max_tokens of two, three, four differs: 100 for base; 90 for hot",
        "samples of four differs: 1 for base; 3 for hot",
    ]


def test_seeds_that_were_asked_otherwise_unfinished_runs_and_failures_are_told(
    tmp_path: Path, base: Path, evaluated: Evaluated
) -> None:
    other = evaluated("warm", 0.5, decoding=Plain(temperature=0.9))
    broken = Path(shutil.copytree(base, tmp_path / "broken"))
    for name, old, new in (
        ("run.json", '"finished": true', '"finished": false'),
        ("evaluation.json", '"failed": 0', '"failed": 2'),
    ):
        text = (broken / name).read_text("utf-8")
        assert old in text
        (broken / name).write_text(text.replace(old, new), "utf-8")
    notes = compared(f"ours={base},{other}", broken).values["notes"]
    assert notes == [
        "temperature differs: 1.0 for ours (seed 0), broken; 0.9 for ours (seed 1)",
        "broken: not finished; the numbers are of what there is",
        "broken: the engine failed on 6 responses, which count nowhere",
    ]


def test_runs_of_one_label_are_seeds_whose_spread_counts(tmp_path: Path, base: Path, evaluated: Evaluated) -> None:
    runs = [evaluated(f"seed-{number}", rate) for number, rate in enumerate((0.4, 0.6, 0.8))]
    text = ",".join(map(str, runs))
    found = compared(f"base={base}", f"ours={text}")
    numbers = pair(found, "ours", "two")
    single = [pair(compared(f"base={base}", f"ours={run}"), "ours", "two")["right"]["value"] for run in runs]
    assert numbers["right"]["value"] == pytest.approx(np.mean(single))
    assert numbers["right"]["se"] > np.std(single, ddof=1) / np.sqrt(3)
    assert (numbers["seeds"], numbers["right"]["df"] < 4) == ((), True)
    assert [run["seed"] for run in found.values["arms"][1]["runs"]] == [0, 1, 2]
    theirs = ",".join(str(base) for _ in runs)
    by_seed = [pair(compared(f"base={theirs}", f"ours={text}", pair_seeds=how), "ours", "two") for how in ("yes", "no")]
    assert [each["seeds"] for each in by_seed] == [(0, 1, 2), ()]
    with pytest.raises(ConfigError, match="--pair-seeds yes: two and one have no seed in common"):
        compared(study(tmp_path / "apart", {"one": {0: base}, "two": {5: runs[0]}}), pair_seeds="yes")


def study(folder: Path, arms: dict[str, dict[int, Path]]) -> Path:
    """A study's folder around finished evaluations."""
    stages, runs = [], []
    for arm, evaluations in arms.items():
        for seed, run in evaluations.items():
            name = f"eval-{arm}-{seed}"
            shutil.copytree(run, folder / "stages" / name / "out")
            stages.append({"id": name, "stage": "eval", "command": "evaluate", "seed": seed, "arms": [arm]})
            runs.append({"row": arm, "seed": seed, "output": f"was/stages/{name}/out"})
    about = {"arms": [{"name": arm, "seeds": [0, 1]} for arm in arms], "stages": stages, "runs": runs}
    (folder / "study.json").write_text(json.dumps(about), "utf-8")
    return folder


def test_a_study_is_compared_as_its_own_table_compares_it(tmp_path: Path, evaluated: Evaluated) -> None:
    runs = {
        "one": {0: evaluated("seed-0", 0.4), 1: evaluated("seed-1", 0.6)},
        "other": {0: evaluated("base", 0.3), 1: evaluated("third", 0.35)},
    }
    found = compared(study(tmp_path / "study", runs))
    rows = [Row(arm, arm, arm, "", {seed: Judged(run) for seed, run in each.items()}) for arm, each in runs.items()]
    for column, (_, groups) in groups_of(rows).items():
        theirs = comparison(rows[1], rows[0], column, groups)
        ours = pair(found, "other", column, "one")
        assert theirs is not None
        assert [ours["right"][name] for name in ("value", "low", "high")] == [
            *(theirs.difference.value, theirs.difference.low, theirs.difference.high)
        ]
        assert ours["ratio"]["high"] == theirs.ratio.high
        assert ours["seeds"] == (0, 1)
    apart = compared(tmp_path / "study", pair_seeds="no")
    assert pair(apart, "other", "two", "one")["seeds"] == ()
    assert "paired by question and seed" in found.text
    assert "paired by question (t tests" in apart.text


def test_the_questions_with_the_largest_differences_are_shown_with_their_texts(base: Path, better: Path) -> None:
    found = compared(base, better, show=3)
    told = found.values["questions"]
    assert [each["difference"] > 0 for each in told] == [True] * 3 + [False] * 3
    prompts = {row["id"]: row["prompt"] for row in pq.read_table(base / "questions").to_pylist()}
    for each in told:
        assert each["prompt"] == prompts[each["id"]]
        ours, theirs = (question_shares(run)[each["group"]][each["id"]] for run in (better, base))
        assert (each["right"], each["right_baseline"]) == (ours, theirs)
        assert abs(each["difference"]) == 1.0
        assert each["prompt"].splitlines()[0][:20] in found.text


def test_a_folder_gets_the_table_the_numbers_and_every_question(tmp_path: Path, base: Path, better: Path) -> None:
    found = compared(base, better, output=tmp_path / "out")
    assert (tmp_path / "out" / "table.md").read_text("utf-8") == found.text + "\n"
    assert json.loads((tmp_path / "out" / "compare.json").read_text("utf-8")) == json.loads(json.dumps(found.to_dict()))
    rows = pq.read_table(tmp_path / "out" / "questions.parquet").to_pylist()
    assert len(rows) == len({(row["group"], row["question_id"]) for row in rows}) == 90
    for group in ("two", "three", "four"):
        mine = [row["difference"] for row in rows if row["group"] == group]
        numbers = pair(found, "better", group)
        assert [sum(each > 0 for each in mine), sum(each < 0 for each in mine)] == [numbers["won"], numbers["lost"]]
        assert np.mean(mine) == pytest.approx(numbers["right"]["value"])
    assert all(row["prompt"] and row["tokens"] > 0 for row in rows)
    before = contents(tmp_path / "out")
    compared(base, better, output=tmp_path / "out")
    assert contents(tmp_path / "out") == before
    (tmp_path / "out" / "mine.txt").write_text("", "utf-8")
    with pytest.raises(InputError, match=r"out: holds mine.txt, which no comparison has written; choose another --output"):
        compared(base, better, output=tmp_path / "out")


def test_unknown_tokens_stay_unknown(tmp_path: Path, base: Path, better: Path) -> None:
    copied = Path(shutil.copytree(better, tmp_path / "copied"))
    for part in (copied / "responses").glob("*.parquet"):
        table = pq.read_table(part)
        place = table.schema.get_field_index("tokens")
        pq.write_table(table.set_column(place, "tokens", pa.nulls(len(table), pa.int64())), part)
    found = compared(base, copied, output=tmp_path / "out")
    assert pair(found, "copied", "two")["tokens"]["value"] is None
    assert pair(found, "copied", "two")["right"] == pair(compared(base, better), "better", "two")["right"]
    assert pq.read_table(tmp_path / "out" / "questions.parquet")["tokens"].null_count == 90


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"baseline": "bas"}, "unknown arm 'bas'; did you mean 'base'"),
        ({"arms": ("base", "beter")}, "unknown arm 'beter'; did you mean 'better'"),
        ({"groups": ("mean harde",)}, "unknown column 'mean harde'; did you mean 'mean harder'"),
        ({"arms": ("base",)}, "expected two arms or more to compare, came base; name another run"),
        ({"baseline": "base", "all_pairs": True}, "--baseline names what all arms are held against, --all-pairs"),
        ({"show": -1}, "show: expected 0 or more, came -1"),
    ],
)
def test_options_that_fit_nothing_are_refused(base: Path, better: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        compared(base, better, **options)


def test_runs_that_are_no_evaluations_are_refused(tmp_path: Path, base: Path, better: Path) -> None:
    run = curated(tmp_path / "curated", "lazy", "paper", questions=4)
    with pytest.raises(InputError, match=r"curated: written by `skillfactory curate`; compare takes runs of `evaluate`"):
        compared(base, run)
    cut = Path(shutil.copytree(better, tmp_path / "cut"))
    (cut / "evaluation.json").unlink()
    with pytest.raises(InputError, match=r"cut: has no evaluation.json yet; the same `skillfactory evaluate` ends the run"):
        compared(base, cut)
    named = study(tmp_path / "study", {"base": {0: base}, "other": {0: better}})
    with pytest.raises(ConfigError, match=f"two arms are called 'base'; give one of them another name: LABEL={base}"):
        compared(named, base, f"base={base}")


def test_the_command_prints_the_tables_or_the_numbers(base: Path, better: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(base), f"ours={better},{better}", "--groups", "two"]) == 0
    out = capsys.readouterr().out
    assert out == compared(base, f"ours={better},{better}", groups=("two",)).text + "\n"
    assert "| ours minus base | two |" in out
    assert main(["compare", str(base), str(better), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["family"] == {"method": "holm", "comparisons": 4}
    assert main(["compare", str(base)]) == 2
    assert "expected two arms or more" in capsys.readouterr().err


def test_hostile_questions_stay_in_their_cell() -> None:
    found = page([], [], [], [Question("a|b", "c", "g", "id", "<script>\n\u202e | `x`", 1.0, 0.0)], ["one\ntwo"])
    row = next(text for text in found.splitlines() if "script" in text)
    assert row.count("|") - row.count("\\|") == 8
    assert "\u202e" not in found
    assert "- **note**: one two" in found


@pytest.mark.parametrize(
    ("p", "text"), [(None, "–"), (1.0, "1.00"), (0.25, "0.25"), (0.042, "0.042"), (0.0004, "0.0004"), (1e-9, "<0.0001")]
)
def test_p_values_have_the_digits_that_matter(p: float | None, text: str) -> None:
    assert chance(p) == text


def test_memory_does_not_grow_with_the_number_of_responses(tmp_path: Path) -> None:
    def peak(samples: int) -> int:
        folder = tmp_path / str(samples) / "responses"
        folder.mkdir(parents=True)
        blank = dict.fromkeys(SCHEMAS["responses"].names)
        for part in range(4):
            ids = [f"q{part}-{number}" for number in range(50) for _ in range(samples)]
            rows = [{**blank, "group": "g", "question_id": each, "check": "right", "tokens": 9, "attempts": 1} for each in ids]
            pq.write_table(pa.Table.from_pylist(rows, SCHEMAS["responses"]), folder / f"part-{part}.parquet")
        question_means(folder.parent)  # what is loaded once
        tracemalloc.start()
        assert len(question_means(folder.parent)["right"]["g"]) == 200
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    assert peak(80) < 2 * peak(10) + 500_000


def test_errors_are_the_users() -> None:
    with pytest.raises(SkillFactoryError, match="there is no such folder"):
        compared("no-such-run", "nor-this")
