"""Laws of reports on runs: what the page shows is what the runs hold, whatever models wrote, in memory that doesn't grow."""

import json
import re
import shutil
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import looking
import pyarrow.parquet as pq
import pytest
from test_report import HOSTILE, Page, sample

from skillfactory.cli import main
from skillfactory.engines.scripted import ScriptedEngine, ScriptedOptions
from skillfactory.errors import InputError
from skillfactory.evaluate import Answering, EvaluateConfig
from skillfactory.evaluation import evaluate
from skillfactory.flow import Request
from skillfactory.gathering import ReportConfig, report
from skillfactory.gathering.pages import gathered
from skillfactory.gathering.picks import SORTS, picked
from skillfactory.outputs import outputs
from skillfactory.report import Study, page
from skillfactory.report.words import share, with_interval


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of each kind: curated, built, evaluated twice, trained, forced to go on."""
    folder = tmp_path_factory.mktemp("runs")
    looking.built(looking.curated(folder / "run"), folder / "traces")
    for salt in (0, 1):
        looking.evaluated(folder / f"eval-{salt}", salt)
    trained(folder / "grpo")
    forced(folder / "budget")
    intervened(folder / "intervene")
    return folder


def trained(folder: Path) -> None:
    """What a training of three steps leaves; each step is two updates."""
    folder.mkdir()
    rows = {"stage": "grpo", "unit": "questions", "requested": 9, "kept": 5, "dropped": {"repeated": 4}}
    account = {"command": "grpo", "version": "0", "settings": {"model": "mini", "seed": 5}, "finished": True, "steps": 3}
    account |= {"questions": rows, "seconds": 61.2, "generated_tokens": 3000}
    (folder / "training.json").write_text(json.dumps(account), "utf-8")
    lines = [{"step": 2 * n, "reward": n / 10, "entropy": None, "generated_tokens": 1000 * n} for n in (1, 2, 3)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")


def forced(folder: Path) -> None:
    """What budget forcing at two budgets leaves, as far as a report reads it."""
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps({"command": "budget", "model": "mini", "finished": True}), "utf-8")

    def way(tokens: float, value: float) -> dict[str, Any]:
        return {"tokens": tokens, "accuracy": {"value": value, "low": value - 0.1, "high": value + 0.1, "se": 0.05, "n": 9}}

    rounds = [
        {"budget": 100, "forcing": way(80.0, 0.25), "vote": way(80.0, 0.25), "closed": None, "closed_vote": None},
        {"budget": 200, "forcing": way(170.0, 0.5), "vote": way(165.0, 0.375), "closed": None, "closed_vote": None},
    ]
    (folder / "budget.json").write_text(json.dumps({"groups": [{"name": "two", "rounds": rounds}]}), "utf-8")


def intervened(folder: Path) -> None:
    """What a causal test leaves, as far as a report reads it."""
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps({"command": "intervene", "model": "mini", "finished": True}), "utf-8")

    def estimate(value: float) -> dict[str, float]:
        return {"value": value, "low": value - 0.125, "high": value + 0.125, "se": 0.05, "n": 9}

    kept = {"continuations": 9, "changed_answer": estimate(0.25), "right": estimate(0.5), "against_control": None}
    dropped = {"continuations": 9, "changed_answer": estimate(0.75), "right": estimate(0.375)}
    dropped["against_control"] = {"changed_answer": estimate(0.5), "right": estimate(-0.125)}
    groups = [{"name": "two", "kind": "harder", "questions": 9, "ways": {"keep": kept, "drop": dropped}}]
    (folder / "intervene.json").write_text(json.dumps({"groups": groups}), "utf-8")


def shown(*paths: str | Path) -> Study:
    given = [str(path) for path in paths]
    return gathered(given, outputs(given))


def numbers(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "evaluation.json").read_text("utf-8"))
    return found


def responses(folder: Path) -> Iterator[dict[str, Any]]:
    for part in sorted((folder / "responses").glob("*.parquet")):
        yield from pq.read_table(part).to_pylist()


def test_all_kinds_of_runs_stand_on_one_page(runs: Path) -> None:
    html = page(shown(*(runs / name for name in ("run", "traces", "eval-0", "grpo", "budget", "intervene"))))
    read = Page(html)
    titles = [text for tag, text in read.texts if tag == "h2"]
    wanted = "Results,More tokens,Changed reflections,Skills and lengths,Training,Kept and dropped"
    wanted += ",Time and tokens,Responses,How it was made"
    assert titles == wanted.split(",")
    assert "Traces: traces" in read.text
    assert re.findall(r"<summary>grpo <small>(.*?)</small>", html) == ["skillfactory grpo · model mini · seed 5"]


def test_cells_and_sheets_are_the_numbers_of_the_evaluation(runs: Path) -> None:
    study, held = shown(runs / "eval-0"), numbers(runs / "eval-0")
    html = page(study)
    entries = {entry["name"]: entry for entry in held["groups"]} | {
        f"mean {entry['kind']}": entry for entry in held["kinds"] if len(entry["groups"]) > 1
    }
    assert {group.name for group in study.groups} == set(entries)
    for cell in study.cells:
        entry = entries[cell.group]
        ends = [cell.accuracy.value, cell.accuracy.low, cell.accuracy.high]
        assert ends == [entry["accuracy"][name] for name in ("value", "low", "high")]
        assert with_interval(cell.accuracy, share) in html
        assert [cell.tokens, cell.cut, cell.answers, cell.f1_correct] == [
            entry[name] for name in ("tokens", "cut", "answers", "f1_correct")
        ]
    for sheet in study.sheets:
        for line in sheet.lines:
            for column, value in zip(sheet.columns, line.values, strict=True):
                found: Any = entries[line.group]
                for key in column.name.split("."):
                    found = (found or {}).get(key)
                assert found is None or value == found, column
    assert {"Pass@k", "Majority@k", "Verdicts", "Outcomes", "From the first answer to the final one"} <= {
        sheet.title for sheet in study.sheets
    }


def test_several_runs_of_an_arm_are_means_and_their_counts_sums(runs: Path) -> None:
    study = shown(f"ours={runs / 'eval-0'},{runs / 'eval-1'}", f"one={runs / 'eval-0'}")
    held = [numbers(runs / name)["groups"][0] for name in ("eval-0", "eval-1")]
    assert [arm.seeds for arm in study.arms] == [(0, 1), ()]
    assert study.cell("ours", "two").accuracy.value == pytest.approx(sum(each["accuracy"]["value"] for each in held) / 2)
    outcomes = next(sheet for sheet in study.sheets if sheet.title == "Outcomes")
    values = {(line.arm, line.group): line.values for line in outcomes.lines}
    assert values["ours", "two"][0] == sum(each["checks"]["right"] for each in held)
    assert values["one", "two"][0] == held[0]["checks"]["right"]


def test_accounts_are_those_of_the_runs_and_every_drop_has_its_row(runs: Path) -> None:
    study = shown(runs / "run", runs / "traces", runs / "grpo")
    found = {(account.funnel.stage, account.funnel.unit): account.funnel for account in study.accounts}
    rows = [row for part in (runs / "run" / "drops").glob("*.parquet") for row in pq.read_table(part).to_pylist()]
    dropped = Counter(found["curate", "reflections"].dropped) + Counter(found["curate", "attempts"].dropped)
    assert dropped
    assert dropped + Counter(found["curate", "questions"].dropped) == Counter(row["reason"] for row in rows)
    built = json.loads((runs / "traces" / "build.json").read_text("utf-8"))
    assert [funnel.to_dict() for (stage, _), funnel in found.items() if stage == "build"] == built["funnels"]
    assert found["grpo", "questions"].dropped == {"repeated": 4}
    text = Page(page(study)).text
    assert all(reason.replace("_", " ") in text for reason in dropped)


def test_accounts_of_several_seeds_are_summed(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "run", tmp_path / "again")
    ones = {each.funnel.unit: each.funnel for each in shown(runs / "run").accounts}
    for each in shown(f"data={runs / 'run'},{tmp_path / 'again'}").accounts:
        one = ones[each.funnel.unit]
        assert (each.runs, each.funnel.requested, each.funnel.kept) == (2, 2 * one.requested, 2 * one.kept)
        assert each.funnel.dropped == {reason: 2 * count for reason, count in one.dropped.items()}


def test_curves_and_costs_are_those_of_the_runs(runs: Path) -> None:
    study = shown(runs / "grpo", runs / "budget")
    (course,) = study.trainings
    assert (course.steps, course.tokens) == ((1.0, 2.0, 3.0), (1000, 2000, 3000))
    assert course.series["reward"] == (0.1, 0.2, 0.3)
    cost = study.stages[0]
    assert (cost.seconds, cost.steps, cost.generated_tokens) == (61.2, 3, 3000)
    assert [(each.way, [(tokens, found.value) for tokens, found in each.points]) for each in study.spendings] == [
        ("budget forcing", [(80.0, 0.25), (170.0, 0.5)]),
        ("majority vote", [(80.0, 0.25), (165.0, 0.375)]),
    ]


def test_changed_reflections_are_told_with_what_is_more_than_in_the_control(runs: Path) -> None:
    study = shown(runs / "intervene")
    found = {each.way: {name: (held.value, more.value) for name, (held, more) in each.shares.items()} for each in study.effects}
    assert found["keep"] == {"Another answer": (0.25, None), "Right": (0.5, None)}
    assert found["drop"] == {"Another answer": (0.75, 0.5), "Right": (0.375, -0.125)}
    text = Page(page(study)).text
    assert "+50.0 (+37.5 to +62.5)" in text
    assert "−12.5 (−25.0 to 0.0)" in text


def test_lengths_count_every_response_once_right_and_wrong_apart(runs: Path) -> None:
    (found,) = shown(runs / "eval-0").lengths
    for side, numbers_of in ((True, found.right), (False, found.wrong)):
        tokens = [row["tokens"] for row in responses(runs / "eval-0") if (row["check"] == "right") == side]
        between = [sum(low <= count < high for count in tokens) for low, high in pairwise(found.edges)]
        assert list(numbers_of) == between
        assert sum(numbers_of) == len(tokens)


def answers_of(text: str) -> list[str]:
    """The answers of the attempts of a response of `looking`, found another way than by the product's own reading."""
    return re.findall(r"<answer>(\d+)</answer>\n</sample>", text)


def test_classes_hold_what_their_names_say_and_attempts_are_marked_by_the_truth(runs: Path) -> None:
    study = shown(runs / "eval-0")
    questions = {row["id"]: row["answer"] for row in pq.read_table(runs / "eval-0" / "questions").to_pylist()}
    counts: Counter[str] = Counter()
    for row in responses(runs / "eval-0"):
        right = [answer == questions[row["question_id"]] for answer in answers_of(row["text"])]
        ended = row["text"].endswith("</answer>")
        counts["Right after a retry"] += ended and right[-1] and not right[0]
        counts["Right, then wrong"] += any(right) and not (ended and right[-1])
        counts["Right at the first try"] += ended and right[0] and right[-1]
        counts["Wrong throughout"] += ended and not any(right)
        counts["No final answer"] += not ended
    found = {each.title: each for each in study.selections}
    assert {title: found[title].found for title in counts} == counts
    for each in study.selections:
        assert each.total == sum(1 for _ in responses(runs / "eval-0"))
        assert len(each.examples) == min(10, each.found) == len({example.name for example in each.examples})
        for example in each.examples:
            assert example.attempts == tuple(answer == example.gold for answer in answers_of(example.response))


def test_traces_are_shown_by_layout_with_their_attempts_marked(runs: Path) -> None:
    found = shown(runs / "traces").selections
    account = json.loads((runs / "traces" / "build.json").read_text("utf-8"))
    assert {each.title: each.found for each in found} == {name: count for name, count in account["traces"].items() if count}
    checks = {row["id"]: row["check"] == "right" for row in pq.read_table(runs / "run" / "attempts").to_pylist()}
    made_of = {row["trace_id"]: row["attempt_ids"] for row in pq.read_table(runs / "traces" / "traces").to_pylist()}
    for example in (example for each in found for example in each.examples):
        assert example.attempts == tuple(checks[attempt] for attempt in made_of[example.name])


def test_picks_hang_on_ids_alone_and_fewer_are_the_first_of_more(runs: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(runs / "eval-0", moved)
    some, all_ = picked({0: moved}, 3), picked({0: runs / "eval-0"}, 50)
    for title, picks in some.picks.items():
        assert [pick.rank for pick in picks] == [pick.rank for pick in all_.picks[title][:3]]
    assert page(shown(f"a={runs / 'eval-0'}")) == page(shown(f"a={moved}")) == page(shown(f"a={moved}"))


def test_memory_does_not_grow_with_the_number_of_responses(runs: Path, tmp_path: Path) -> None:
    part = next((runs / "eval-0" / "responses").glob("*.parquet"))
    peaks = []
    for copies in (4, 40):
        folder = tmp_path / str(copies) / "responses"
        folder.mkdir(parents=True)
        for copy in range(copies):
            shutil.copy(part, folder / f"part-{copy:05d}.parquet")
        tracemalloc.start()
        found = picked({0: folder.parent})
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert found.total == copies * pq.read_metadata(part).num_rows
    assert peaks[1] < 1.5 * peaks[0]


SUITE = "groups: [{name: two, kind: in-domain, task: multiplication, level: 2, questions: 12, samples: 2, max_tokens: 100}]"
LONG = "<sample>" * 12_000 + "\u202e\x00<reflect>" * 9_000  # five times in a response: a megabyte


def hostile(request: Request) -> str:
    """A response that tries to break the page."""
    text = [*HOSTILE, LONG, "\ud800\x00" * 500][request.seed % (len(HOSTILE) + 2)]
    return f"<think>{text}<sample>{text}<answer>{text}</answer></sample>{text}</think>{text}<answer>{text[:40]}"


def test_hostile_responses_stay_text_and_the_page_small(tmp_path: Path) -> None:
    (tmp_path / "suite.yaml").write_text(SUITE, "utf-8")
    answering = Answering("scripted", {"answer": "looking:response"})
    config = EvaluateConfig("<script>model</script>", tmp_path / "run", str(tmp_path / "suite.yaml"), generation=answering)
    evaluate(config, engine=lambda: ScriptedEngine(ScriptedOptions(hostile)))
    html = page(shown(f"<b>x</b>\u202e={tmp_path / 'run'}"))
    read = Page(html)
    assert {tag for tag, _ in read.found} <= {tag for tag, _ in Page(sample()).found}
    assert not any(name.startswith("on") for _, found in read.found for name in found)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]", html)
    assert "<script>alert(1)</script>" in read.text
    assert len(html.encode()) < 1_000_000


def test_the_command_writes_the_page_and_says_what_it_shows(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "deep" / "page.html"
    assert main(["report", str(runs / "traces"), f"ours={runs / 'eval-0'}", "--output", str(output), "--title", "A & B"]) == 0
    printed = capsys.readouterr().out
    html = output.read_text("utf-8")
    assert "<h1>A &amp; B</h1>" in html
    told = re.fullmatch(r"(.*): 2 runs, (\d+) responses and traces to read, ([\d,]+) kB\n", printed)
    assert told is not None
    assert told[1] == str(output)
    runs_and_responses = re.findall(r"<details><summary>[^<]+ <small>[^<]*</small></summary><dl", html)
    assert int(told[2]) == len(runs_and_responses) - 2
    assert int(told[3].replace(",", "")) == pytest.approx(len(html.encode()) / 1000, abs=1)


def test_what_can_not_be_shown_is_named_with_what_to_do(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such folder; expected a folder that `skillfactory curate`"):
        report(ReportConfig((str(tmp_path / "none"),), tmp_path / "page.html"))
    with pytest.raises(InputError, match=r"a folder; expected the name of the page to write, such as report\.html"):
        report(ReportConfig((str(runs / "grpo"),), tmp_path))
    begun = tmp_path / "begun"
    shutil.copytree(runs / "eval-0", begun)
    (begun / "evaluation.json").unlink()
    with pytest.raises(InputError, match=r"it has no evaluation\.json; the same `skillfactory evaluate` goes on"):
        shown(begun)
    broken = tmp_path / "broken"
    shutil.copytree(runs / "budget", broken)
    (broken / "budget.json").write_text('{"groups": [{}]}', "utf-8")
    with pytest.raises(InputError, match=r"budget\.json: expected groups with their numbers.*the same command writes it anew"):
        shown(broken)
    torn = tmp_path / "torn"
    shutil.copytree(runs / "grpo", torn)
    (torn / "metrics.jsonl").write_text('{"step": 1}\n{"loss": 2}\n', "utf-8")
    with pytest.raises(InputError, match=r"metrics\.jsonl: line 2: expected an object with a number 'step'"):
        shown(torn)


def test_a_run_under_way_is_shown_with_a_note(runs: Path, tmp_path: Path) -> None:
    under_way = tmp_path / "under-way"
    shutil.copytree(runs / "grpo", under_way)
    account = json.loads((under_way / "training.json").read_text("utf-8"))
    (under_way / "training.json").write_text(json.dumps(account | {"finished": False, "steps": None}), "utf-8")
    assert "under-way: `skillfactory grpo` has not ended here" in Page(page(shown(under_way))).text


def test_a_task_that_is_not_here_leaves_attempts_unchecked(runs: Path, tmp_path: Path) -> None:
    away = tmp_path / "away"
    shutil.copytree(runs / "eval-0", away)
    state = (away / "run.json").read_text("utf-8").replace('"task": "multiplication"', '"task": "nowhere:Task"')
    (away / "run.json").write_text(state, "utf-8")
    examples = [example for each in shown(away).selections for example in each.examples]
    assert {right for example in examples for right in example.attempts} == {None}


def test_every_class_says_what_it_holds() -> None:
    assert len({sort.title for sort in SORTS}) == len(SORTS)
    assert all(sort.about and sort.columns for sort in SORTS)
