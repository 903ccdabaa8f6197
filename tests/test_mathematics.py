"""Mathematics from data sets: what is read, what is dropped and why, and what counts as equal."""

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from skillfactory.errors import ConfigError, InputError
from skillfactory.records import Check, Drop, Grade, Question
from skillfactory.tasks.boxed import after_thinking, boxed
from skillfactory.tasks.dataset import DataTask
from skillfactory.tasks.equivalence import equivalent, usable_gold
from skillfactory.tasks.mathematics import AIME2025, AMC2023, GSM8K, MATH500, OpenThoughts, number_grade
from skillfactory.tasks.source import Source

DATA = Path(__file__).parent / "data"


def cases(name: str) -> list[Any]:
    text = (Path(__file__).parent / "cases" / f"{name}.json").read_text(encoding="utf-8")
    return [pytest.param(case, id=f"{case['gold']} ? {case['answer']}"[:40]) for case in json.loads(text)]


def read(task: DataTask, split: str, level: str = "all") -> tuple[list[Question], Counter[str]]:
    """The questions of a split and the drops by reason."""
    items = list(task.questions(None, level, 0, split))
    return [i for i in items if isinstance(i, Question)], Counter(i.reason for i in items if isinstance(i, Drop))


def task(name: str) -> DataTask:
    tasks: dict[str, DataTask] = {
        "gsm8k": GSM8K(source=str(DATA / "gsm8k")),
        "aime2025": AIME2025(source=str(DATA / "aime25.jsonl")),
        "amc2023": AMC2023(source=str(DATA / "amc23.jsonl")),
        "math500": MATH500(source=str(DATA / "math500.jsonl")),
        "openthoughts": OpenThoughts(source=str(DATA / "openthoughts3.jsonl")),
    }
    return tasks[name]


@pytest.mark.parametrize("case", cases("mathematics"))
def test_equivalence_is_what_the_table_says(case: dict[str, str]) -> None:
    grade = equivalent(case["gold"], case["answer"])
    assert grade.check.value == case["check"], grade
    assert grade.reason == case.get("reason", grade.reason)


@pytest.mark.parametrize("case", cases("gsm8k"))
def test_numbers_are_read_as_the_table_says(case: dict[str, str]) -> None:
    assert number_grade(case["gold"], case["answer"]) == Grade(Check(case["check"]), case["reason"])


def test_no_answer_takes_long_or_brings_us_down() -> None:
    for answer in ["9" * 1_000_000, "{" * 100_000, "\\boxed{" * 50_000, "-" * 399 + "1", "(" * 200 + "1" + ")" * 199]:
        started = time.monotonic()
        assert equivalent("1", answer).check in (Check.WRONG, Check.UNDECIDED)
        assert number_grade("1", answer) == Grade(Check.WRONG, "too_long")
        assert time.monotonic() - started < 60
    assert equivalent("\\sqrt{2}", "2^{1/2}").check is Check.RIGHT


def test_a_power_tower_is_undecided_not_wrong() -> None:
    assert equivalent("1", "9^{9^{9}}", seconds=0.5) == Grade(Check.UNDECIDED, "timeout")
    assert equivalent("\\frac{1}{2}", "\\frac{2}{4}").check is Check.RIGHT


def test_unusable_golds_are_named() -> None:
    assert [usable_gold(gold) for gold in ["\\frac{1}{2}", "\\text{even}", "(1,2)", "4210_5"]] == [None] * 4
    assert [usable_gold(gold) for gold in ["", "\\frac{", "9" * 500]] == ["empty", "unparseable", "too_long"]
    with pytest.raises(InputError, match=r"math500: bad_gold in the str '\\\\frac\{'"):
        task("math500").question({"answer": "\\frac{"})
    with pytest.raises(InputError, match="gsm8k: bad_gold in the str 'several': not a number"):
        task("gsm8k").question({"answer": "several"})
    with pytest.raises(InputError, match=r"the fact 'answer' is missing \(found: gold\)"):
        task("gsm8k").question({"gold": "4"})


@pytest.mark.parametrize("name", ["gsm8k", "aime2025", "amc2023", "math500", "openthoughts"])
def test_gold_scores_right_and_spoiled_gold_does_not(name: str) -> None:
    this = task(name)
    questions = read(this, "eval" if name != "openthoughts" else "sft")[0] + read(task("gsm8k"), "sft")[0]
    assert questions
    for question in questions:
        grader = task(question.task)
        assert grader.check(question, question.answer).check is Check.RIGHT
        assert grader.check(question, question.answer + "7").check is Check.WRONG
        assert grader.check(question, "").check is Check.MISSING
        again = grader.question(json.loads(json.dumps(dict(question.facts))))
        assert again == question
        assert f"{grader.answer_format}, inside <answer> and </answer>" in question.prompt


def test_gsm8k_keeps_its_test_split_and_deals_the_rest_by_question() -> None:
    this = task("gsm8k")
    parts = {split: read(this, split) for split in ("sft", "rl", "eval")}
    keys = {split: {this.canonical(q) for q in questions} for split, (questions, _) in parts.items()}
    assert len(keys["eval"]) == 3
    assert len(keys["sft"]) + len(keys["rl"]) == 12
    assert keys["sft"]
    assert keys["rl"]
    assert not keys["sft"] & keys["rl"] | keys["eval"] & (keys["sft"] | keys["rl"])
    drops = parts["sft"][1] | parts["rl"][1]
    assert drops == {"no_gold": 1, "bad_gold": 1, "duplicate": 1, "in_eval": 1}
    assert any(q.answer == "1900" for questions, _ in parts.values() for q in questions)


def test_a_single_file_is_dealt_to_all_three_splits() -> None:
    this = GSM8K(source=str(DATA / "gsm8k" / "train.jsonl"))
    counts = [len(read(this, split)[0]) for split in ("sft", "rl", "eval")]
    assert sum(counts) == 13
    assert min(counts) > 0


def test_n_counts_questions_and_leaves_the_earlier_ones_as_they_were() -> None:
    this = task("gsm8k")
    everything = list(this.questions(None, "all", 0, "sft"))
    some = list(this.questions(3, "all", 0, "sft"))
    assert sum(isinstance(item, Question) for item in some) == 3
    assert everything[: len(some)] == some


def test_benchmarks_are_not_for_training() -> None:
    for name in ("aime2025", "amc2023", "math500"):
        with pytest.raises(ConfigError, match=rf"{name} is a benchmark: it has the split 'eval' only"):
            task(name).questions(1, "all", 0, "sft")


def test_aime_answers_are_whole_numbers_up_to_999() -> None:
    (power, divisors), drops = read(task("aime2025"), "eval")
    assert drops == {"bad_gold": 1}
    this = task("aime2025")
    grades = [this.check(divisors, text) for text in ["9", "009", "\\boxed{9}", "9.0", "0009", "9 divisors", "10"]]
    assert [grade.check is Check.RIGHT for grade in grades] == [True] * 3 + [False] * 4
    assert power.answer == "401"


def test_math500_has_levels() -> None:
    this = task("math500")
    assert [q.level for q in read(this, "eval", "2")[0]] == ["2", "2"]
    questions, drops = read(this, "eval")
    assert len(questions) == 5
    assert drops == {"bad_gold": 1}
    with pytest.raises(ConfigError, match="unknown level of math500 '7'"):
        this.questions(1, "7", 0, "eval")


def test_amc_answers_that_are_whole_lose_their_decimal_point() -> None:
    assert [q.answer for q in read(task("amc2023"), "eval")[0]] == ["27", "0.5"]


def test_openthoughts_takes_the_box_after_the_thinking_and_counts_what_it_drops() -> None:
    found: list[Question] = []
    drops: Counter[str] = Counter()
    for split in ("sft", "rl", "eval"):
        questions, dropped = read(OpenThoughts(source=str(DATA / "openthoughts3.jsonl"), domain="math"), split)
        found, drops = found + questions, drops | dropped
    assert {q.facts["question"]: q.answer for q in found} == {"What is $2+2$?": "4", "What is half of one?": "\\frac{1}{2}"}
    assert drops == {"no_boxed": 2, "boxed_differ": 1, "other_domain": 1, "duplicate": 1, "duplicate_other_answer": 1}
    older = OpenThoughts(source=str(DATA / "openthoughts114k.jsonl"))
    assert [q.answer for split in ("sft", "rl", "eval") for q in read(older, split)[0]] == ["42"]


@pytest.mark.parametrize("thought", ["<think> maybe {}, wait", "<|begin_of_thought|>{}", "<think>a</think>b<think>{}"])
def test_thinking_that_never_ends_gives_no_gold(tmp_path: Path, thought: str) -> None:
    response = thought.format("\\boxed{3}")
    assert after_thinking(response) == ""
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"conversations": [{"from": "human", "value": "What?"}, {"from": "gpt", "value": response}]}))
    assert read(OpenThoughts(source=str(path), train="", test="any"), "eval") == ([], Counter({"no_thinking_end": 1}))


def test_boxes_are_found_whole_and_in_linear_time() -> None:
    assert boxed("a \\boxed{\\frac{1}{2}} b \\fbox{\\{x\\}} \\boxed{\\boxed{3}}") == ["\\frac{1}{2}", "\\{x\\}", "\\boxed{3}"]
    assert boxed("\\boxed{1} \\boxed{2") == ["1"]
    assert after_thinking("<think>a</think>b</think>c") == "c"
    assert after_thinking("no tags at all") == "no tags at all"
    started = time.monotonic()
    boxed("\\boxed{" * 100_000)
    assert len(boxed("\\boxed{1}" * 100_000)) == 100_000
    assert time.monotonic() - started < 2


def test_a_source_that_is_not_there_is_an_error_and_never_an_empty_set(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "broken.jsonl").write_text('{"question": "a"}\n\nnot json\n')
    (tmp_path / "list.jsonl").write_text('{"question": "a"}\n[1]\n')
    (tmp_path / "deep.jsonl").write_text("[" * 100_000)
    (tmp_path / "latin.jsonl").write_bytes('{"question": "é"}\n'.encode("latin-1"))
    latin = pa.array([b"plain", "é".encode("latin-1")], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"question": latin}), tmp_path / "latin.parquet")
    for path, message in [
        ("nowhere.jsonl", "can't read .*nowhere.jsonl.*there is no such file or folder"),
        ("empty.jsonl", "has no rows"),
        ("broken.jsonl", "broken.jsonl, line 3: not JSON"),
        ("list.jsonl", "list.jsonl, line 2: not a JSON object but list; one object per line is expected"),
        ("deep.jsonl", "deep.jsonl, line 1: not JSON"),
        ("latin.jsonl", "latin.jsonl, line 1: not JSON .*can't decode"),
        ("latin.parquet", "latin.parquet, row 2: not UTF-8"),
    ]:
        with pytest.raises(InputError, match=message):
            list(Source(str(tmp_path / path)).rows("train"))
    with pytest.raises(InputError, match=r"no column 'problem'; the columns are: question, answer"):
        read(AIME2025(source=str(DATA / "gsm8k" / "test.jsonl")), "eval")


def test_a_lone_surrogate_in_a_question_is_read_as_a_question_mark(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"question": "\\uD83D What is 2+2?", "answer": "#### 4"}\n')
    (question,) = read(GSM8K(source=str(path), train=""), "eval")[0]
    assert question.facts["question"] == "? What is 2+2?"
    question.prompt.encode()


def test_parquet_and_saved_folders_hold_the_same_rows_as_jsonl(tmp_path: Path) -> None:
    import datasets
    import pyarrow.json
    import pyarrow.parquet

    table = pyarrow.json.read_json(DATA / "gsm8k" / "test.jsonl")
    pyarrow.parquet.write_table(table, tmp_path / "test.parquet")
    saved = datasets.Dataset.from_dict(table.to_pydict())
    datasets.DatasetDict({"test": saved}).save_to_disk(tmp_path / "saved")
    (tmp_path / "repo" / "main").mkdir(parents=True)
    saved.to_parquet(tmp_path / "repo" / "main" / "test-00000-of-00001.parquet")
    wanted = list(Source(str(DATA / "gsm8k")).rows("test"))
    for path in (tmp_path, tmp_path / "saved", tmp_path / "repo" / "main"):
        assert list(Source(str(path)).rows("test")) == wanted
