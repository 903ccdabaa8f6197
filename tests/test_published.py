"""Laws of the published evaluation schema: ours goes there and back unchanged, theirs is read as it stands, flaws are named."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import solver

from skillfactory.engines.scripted import ScriptedEngine, ScriptedOptions
from skillfactory.errors import ConfigError, InputError
from skillfactory.evaluate import Answering, EvaluateConfig
from skillfactory.evaluation import evaluate, question_shares, read_responses, stored_groups
from skillfactory.flow import Completion, Request, failed
from skillfactory.published import COLUMNS, PublishedConfig, published
from skillfactory.records import Stop
from skillfactory.seeds import rng

TRACE = (
    "<think>\n<sample>\nfirst\n<answer>{first}</answer>\n</sample>\n<reflect>\nno <verdict>Incorrect</verdict>\n</reflect>\n"
    "Again.\n<sample>\nsecond\n<answer>{second}</answer>\n</sample>\n<reflect>\nyes <verdict>Correct</verdict>\n</reflect>\n"
    "</think>\n\nSo it is.\n\n<answer>\n{final}\n</answer>"
)


def model(request: Request) -> str | Completion:
    """Retries in its trace, is cut now and then, says nothing now and then, and fails now and then."""
    fate = rng(request.seed, "fate").random()
    if fate < 0.05:
        return failed(request, "gone")
    prompt = request.messages[-1][1]
    right = solver.product(prompt)
    text = "no idea" if fate < 0.2 else TRACE.format(first=right + 1, second=right, final=right if fate < 0.8 else 7)
    return Completion(request.key, text, Stop.LENGTH if fate > 0.95 else Stop.END, 5, len(text.split()), 100)


def evaluated(folder: Path, **changes: Any) -> EvaluateConfig:
    made = EvaluateConfig("model", folder, task=("multiplication:2@70", "multiplication:3@9"), samples=3)
    made = replace(made, generation=Answering("scripted", {"answer": "solver:answer"}), **changes)
    evaluate(made, engine=lambda: ScriptedEngine(ScriptedOptions(model)))
    return made


def exchanged(source: Path, output: Path, **kind: str) -> Any:
    return published(PublishedConfig(source, output, kind))


def numbers(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "evaluation.json").read_text("utf-8"))
    return found


def responses(run: Path) -> list[Any]:
    """All that is stored of the responses but for what an engine leaves."""
    names = pq.read_schema(run / "responses" / "part-00000.parquet").names
    return [{**row, "keys": None} for row in read_responses(run, tuple(names))]


@pytest.mark.parametrize("retry", [0, 3])
def test_an_evaluation_goes_there_and_back_unchanged(tmp_path: Path, retry: int) -> None:
    run, file, back = tmp_path / "run", tmp_path / "out" / "run.parquet", tmp_path / "back"
    evaluated(run, retry=retry)
    found = exchanged(run, file)
    assert (found.questions, found.responses) == (79, len(responses(run)))
    summary = exchanged(file, back)
    assert responses(back) == responses(run)
    assert question_shares(back) == question_shares(run)
    assert stored_groups(back) == stored_groups(run)
    ours, theirs = (numbers(each)["groups"] for each in (run, back))
    assert [{**group, "failed": 0} for group in ours] == theirs, "failures are in no published row"
    assert summary.funnels[0].kept == 79
    again = tmp_path / "again.parquet"
    exchanged(back, again)
    assert pq.read_table(again).equals(pq.read_table(file))


def test_every_row_holds_the_answers_in_its_traces_with_their_truth(tmp_path: Path) -> None:
    evaluated(tmp_path / "run")
    exchanged(tmp_path / "run", tmp_path / "run.parquet")
    table = pq.read_table(tmp_path / "run.parquet")
    assert tuple(table.schema.names) == COLUMNS
    traces = 0
    for row in table.to_pylist():
        gold = int(row["answer"])
        assert row["prompt"] == [{"content": row["question"], "role": "user"}]
        for text, right, answer, truth, inner in zip(*(row[name] for name in COLUMNS[4:9]), strict=True):
            assert right == (answer == str(gold))
            if "<sample>" in text:
                traces += 1
                assert inner == [str(gold + 1), str(gold), answer]
            assert truth == [value == str(gold) for value in inner] if "<sample>" not in text else True
    assert traces > 100


def row(**changes: Any) -> dict[str, Any]:
    """A row as the released files have it: JSON in the last two columns, a task of a name that we don't know."""
    texts = [TRACE.format(first="1 + 2", second="3 * 4", final="3 * 4"), "no idea", "<answer>3 + 4</answer>"]
    made = {
        "question": "Using the numbers in the list [3, 4, 5] make 12.",
        "answer": "12",
        "task": "countdown_3arg",
        "prompt": [{"content": "Using the numbers …", "role": "user"}],
        "model_responses": texts,
        "model_responses__eval_is_correct": [True, False, False],
        "model_responses__eval_extracted_answers": ["3 * 4", "", "3 + 4"],
        "model_responses__internal_answers__eval_is_correct": [[False, True, True], [], [False]],
        "model_responses__internal_answers__eval_extracted_answers": [["1 + 2", "3 * 4", "3 * 4"], [], ["3 + 4"]],
        "all_other_columns": '{"target": 12, "numbers": [3, 4, 5]}',
        "metadata": "{}",
    }
    return {name: value for name, value in {**made, **changes}.items() if value != "absent"}


def written(path: Path, *rows: dict[str, Any]) -> Path:
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows)), path)
    return path


def test_released_data_are_measured_by_what_they_say_and_go_back_as_they_came(tmp_path: Path) -> None:
    harder = row(task="countdown_4arg", question="Another.", all_other_columns=None)
    released = [written(tmp_path / "in" / "a.parquet", row(), row()), written(tmp_path / "in" / "b.parquet", harder)]
    summary = exchanged(tmp_path / "in", tmp_path / "run", countdown_4arg="harder")
    three, four = summary.numbers["groups"]
    assert [(group["name"], group["kind"]) for group in (three, four)] == [
        ("countdown_3arg", "countdown_3arg"),
        ("countdown_4arg", "harder"),
    ]
    assert three["questions"] == 2, "a question that stands twice is two"
    assert three["accuracy"]["value"] == pytest.approx(1 / 3)
    assert three["checks"] == {"right": 2, "wrong": 2, "missing": 2, "undecided": 0}
    assert list(three["verdicts"].values()) == [2, 0, 2, 0, 0], "true and false Correct, true and false Incorrect, none"
    assert three["any_right"] == pytest.approx(1 / 3)
    assert (three["first_right"], three["answers"]) == (0, 1)
    assert [three[name] for name in ("tokens", "cut", "requests")] == [None] * 3, "what the schema doesn't say isn't 0"
    assert three["majority_at"]["3"] == pytest.approx(0.5)
    exchanged(tmp_path / "run", tmp_path / "back.parquet")
    before = [each for path in released for each in pq.read_table(path).to_pylist()]
    after = pq.read_table(tmp_path / "back.parquet").to_pylist()
    for each in before:
        each["model_responses__eval_extracted_answers"][1] = None  # no answer: there is no text for it
    assert after == before


def test_tasks_whose_names_differ_in_odd_signs_alone_stay_two_groups(tmp_path: Path) -> None:
    wrong = row(model_responses__eval_is_correct=[False] * 3)
    tasks = ["math/500", "math 500", "math-500-2", "x" * 70 + "1", "x" * 70 + "2"]
    rows = [{**(row() if n == 0 else wrong), "task": task, "question": f"{n}"} for n, task in enumerate(tasks)]
    groups = exchanged(written(tmp_path / "in" / "a.parquet", *rows), tmp_path / "run").numbers["groups"]
    assert [group["task"] for group in groups] == tasks
    assert [group["name"] for group in groups] == ["math-500", "math-500-2", "math-500-2-2", "x" * 64, "x" * 62 + "-2"]
    assert [group["accuracy"]["value"] for group in groups] == [pytest.approx(1 / 3), 0, 0, 0, 0]
    assert [group["questions"] for group in groups] == [1] * 5


def test_an_import_that_is_done_is_done_and_another_file_is_another_run(tmp_path: Path) -> None:
    exchanged(written(tmp_path / "a.parquet", row()), tmp_path / "run")
    assert exchanged(tmp_path / "a.parquet", tmp_path / "run").nothing_to_do
    written(tmp_path / "a.parquet", row(), row(question="New."))
    assert exchanged(tmp_path / "a.parquet", tmp_path / "run").numbers["groups"][0]["questions"] == 2
    with pytest.raises(ConfigError, match=r"holds texts of the model 'published a.parquet \(imported\)', not of"):
        evaluated(tmp_path / "run")


def test_columns_that_may_be_absent_may_be_absent_and_a_cut_is_read_where_it_is_told(tmp_path: Path) -> None:
    bare = row(**{name: "absent" for name in COLUMNS if name in ("prompt", "metadata", *COLUMNS[6:10])})
    bare["model_responses__finish_reason_length_flags"] = [False, True, False]
    group = exchanged(written(tmp_path / "a.parquet", bare), tmp_path / "run").numbers["groups"][0]
    assert group["cut"] == pytest.approx(1 / 3)
    assert group["checks"] == {"right": 1, "wrong": 0, "missing": 2, "undecided": 0}
    assert group["first_right"] == 0, "of an answer nobody has graded nothing is known"


def test_hostile_texts_come_and_go_as_they_are(tmp_path: Path) -> None:
    texts = ["<think>" * 100_000, "a\x00b \u202e<answer>1</answer>", "<answer>" * 1000 + "x" * 500_000 + "</answer>" * 1000]
    bad = row(model_responses=texts, **{COLUMNS[6]: [None, "1", "x" * 500_000]})
    summary = exchanged(written(tmp_path / "a.parquet", bad), tmp_path / "run")
    assert [each["text"] for each in responses(tmp_path / "run")] == texts
    assert summary.numbers["groups"][0]["majority_at"]["3"] is not None
    exchanged(tmp_path / "run", tmp_path / "b.parquet")
    assert pq.read_table(tmp_path / "b.parquet")["model_responses"].to_pylist() == [texts]


def test_a_row_without_responses_is_dropped_and_counted(tmp_path: Path) -> None:
    empty = row(**{name: [] for name in COLUMNS[4:9]})
    summary = exchanged(written(tmp_path / "a.parquet", row(), empty), tmp_path / "run")
    assert str(summary.funnels[0]) == "published: 2 questions = 1 kept + 1 dropped (no_responses 1)"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "absent"}, r"bad.parquet: no column 'task'; the file has: question, answer, prompt"),
        ({"model_responses": "absent"}, "bad.parquet: no column 'model_responses'; the file has"),
        ({"question": None}, r"bad.parquet, row 2, column 'question': expected text, came nothing"),
        ({"model_responses": None}, r"bad.parquet, row 2, column 'model_responses': expected a list, came nothing"),
        ({"model_responses": ["a", None, "b"]}, r"row 2, column 'model_responses': expected text at place 2, came nothing"),
        ({COLUMNS[5]: [True]}, r"row 2, column 'model_responses__eval_is_correct': expected 3 values, one for each.*, came 1"),
        ({COLUMNS[5]: [True, None, False]}, r"row 2, column '.*is_correct': expected true or false at place 2, came nothing"),
        ({COLUMNS[6]: []}, r"row 2, column 'model_responses__eval_extracted_answers': expected 3 values.*, came 0"),
        (
            {COLUMNS[7]: [[True], [], [False]]},
            r"row 2, column '.*internal_answers__eval_is_correct': expected 3 values.*, came 1",
        ),
    ],
)
def test_a_flaw_is_named_with_its_file_row_and_column(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    bad = row(**changes)
    first = {name: value for name, value in row().items() if name in bad}
    with pytest.raises(InputError, match=message):
        exchanged(written(tmp_path / "bad.parquet", first, bad), tmp_path / "run")


def test_what_can_not_be_exchanged_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere: no evaluation that could be exported"):
        exchanged(tmp_path / "nowhere", tmp_path / "x.parquet")
    with pytest.raises(InputError, match="can't be read as Parquet"):
        exchanged(tmp_path / "nowhere", tmp_path / "run")
    with pytest.raises(ConfigError, match="unknown task of --kind 'countdown_4arg'; did you mean 'countdown_3arg'"):
        exchanged(written(tmp_path / "a.parquet", row()), tmp_path / "run", countdown_4arg="harder")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty: holds no Parquet file"):
        exchanged(tmp_path / "empty", tmp_path / "run")
    evaluated(tmp_path / "ours")
    with pytest.raises(ConfigError, match=r"exported to a file that ends in \.parquet, not to"):
        exchanged(tmp_path / "ours", tmp_path / "x.jsonl")
    with pytest.raises(ConfigError, match="--kind is for imports"):
        exchanged(tmp_path / "ours", tmp_path / "x.parquet", a="b")
