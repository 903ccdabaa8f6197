"""Laws of evaluation: what is asked, what counts, what is stored, and that a killed run ends in the same bytes."""

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import solver
import yaml
from test_kill_resume import environment, on_disk
from test_run import contents
from tiny_model import save_tiny_model

from skillfactory.cli import main
from skillfactory.engines.scripted import ScriptedEngine, ScriptedOptions
from skillfactory.errors import ConfigError, InputError
from skillfactory.evaluate import Answering, Asking, EvaluateConfig, Plain, flows
from skillfactory.evaluation import NUMBERS, Summary, evaluate, question_shares, read_responses, stored_groups
from skillfactory.examination import Evaluated, Response, respond
from skillfactory.flow import Completion, Flow, Request, failed
from skillfactory.measure import COLUMNS, MEANS, ballot, measured
from skillfactory.records import Check, Grade, Question, Stop
from skillfactory.seeds import rng
from skillfactory.suites import Group
from skillfactory.tasks import resolve

Model = Callable[[Request], str | Completion]
SUITE = """
groups:
  - {name: two, kind: in-domain, task: multiplication, level: 2, questions: 70, samples: 2, max_tokens: 100}
  - {name: three, kind: harder, task: multiplication, level: 3, questions: 50, samples: 3, max_tokens: 100}
  - {name: four, kind: harder, task: multiplication, level: 4, questions: 50, samples: 1, max_tokens: 100}
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    path = tmp_path / "suite.yaml"
    path.write_text(SUITE, "utf-8")
    return path


def config(suite: Path, **changes: object) -> EvaluateConfig:
    made = EvaluateConfig(
        "model", suite.parent / "run", str(suite), generation=Answering("scripted", {"answer": "solver:answer"})
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def run(config: EvaluateConfig, model: Model = solver.answer, concurrency: int = 64) -> Summary:
    return evaluate(config, engine=lambda: ScriptedEngine(ScriptedOptions(model, concurrency=concurrency)))


def talk(flow: Flow[Evaluated], model: Model) -> tuple[list[Sequence[Request]], Evaluated]:
    """The batches that a flow asks for, and its result."""
    batches: list[Sequence[Request]] = []
    sent: list[Completion] = []
    while True:
        try:
            batches.append(flow.send(sent) if sent else next(flow))
        except StopIteration as end:
            return batches, end.value
        made = [(request, model(request)) for request in batches[-1]]
        sent = [text if isinstance(text, Completion) else completion(request, text) for request, text in made]


def completion(request: Request, text: str, stop: Stop = Stop.END) -> Completion:
    return Completion(request.key, text, stop, 5, len(text.split()), request.sampling.max_tokens)


def first(config: EvaluateConfig) -> Flow[Evaluated]:
    return next(flows(config, config.chosen()))


def responses(config: EvaluateConfig, model: Model) -> tuple[Response, ...]:
    return talk(first(config), model)[1].responses


def test_a_question_is_asked_as_it_stands_with_a_seed_for_every_sample(suite: Path) -> None:
    batches, found = talk(first(config(suite, samples=5)), solver.answer)
    requests = batches[0]
    assert found.question
    assert {request.messages for request in requests} == {(("user", found.question.prompt),)}
    assert len({request.seed for request in requests}) == len(requests) == 5
    assert len(batches) == 1
    how = requests[0].sampling
    assert (how.temperature, how.top_p, how.top_k, how.repetition_penalty, how.max_tokens) == (1.0, 1.0, 0, 1.0, 100)


def test_a_variant_puts_its_words_around_the_question(suite: Path) -> None:
    asked = config(suite, prompts=Asking(variant="original", variants_file=Path("brief")))
    batches, found = talk(first(asked), solver.answer)
    assert found.question
    assert batches[0][0].messages == (("user", f"{found.question.prompt}\n\nThink step by step."),)


def test_groups_take_turns_and_more_questions_leave_the_first_ones_where_they_were(suite: Path) -> None:
    made = config(suite, questions=4)
    found = [talk(flow, solver.answer)[1] for flow in flows(made, made.chosen())]
    assert [item.group for item in found] == ["two", "three", "four"] * 4
    more = replace(made, questions=9)
    assert [talk(flow, solver.answer)[1] for flow in flows(more, more.chosen())][:12] == found


@pytest.mark.parametrize(
    ("text", "stop", "check", "reason"),
    [
        ("<answer>{right}</answer>", Stop.END, Check.RIGHT, "equal"),
        ("<answer>{right}</answer> and so on and", Stop.LENGTH, Check.RIGHT, "equal"),  # cut after its answer
        ("<think>\n<sample><answer>{right}</answer></sample>", Stop.LENGTH, Check.MISSING, "unclosed_think"),
        ("<think>\n<answer>{right}</answer></think> hm", Stop.END, Check.MISSING, "no_answer"),
        ("<think>\n<answer>1</answer></think>\n\n<answer>{right}</answer>", Stop.END, Check.RIGHT, "equal"),
        ("<answer>1</answer>", Stop.END, Check.WRONG, "wrong_value"),
    ],
)
def test_the_final_answer_is_what_is_graded(suite: Path, text: str, stop: Stop, check: Check, reason: str) -> None:
    def model(request: Request) -> Completion:
        right = solver.product(request.messages[-1][1])
        return completion(request, text.format(right=right), stop)

    found = responses(config(suite), model)[0]
    assert (found.check, found.reason, found.stop) == (check, reason, stop)


def attempts_then(*verdicts: str) -> Model:
    """A model that answers 1, 2, 3 … and whose reviews say these things in turn."""
    said: list[str] = []

    def model(request: Request) -> str:
        if "<verdict>" in request.messages[-1][1]:
            said.append(f"<verdict>{verdicts[len(said)]}</verdict>")
            return said[-1]
        return f"it is <answer>{len(said) + 1}</answer>"

    return model


@pytest.mark.parametrize(
    ("verdicts", "retry", "answer", "requests"),
    [
        (("Correct",), 4, "1", 2),
        (("Incorrect", "Correct"), 4, "2", 4),
        (("Incorrect", "maybe", "Incorrect"), 4, "4", 7),  # none was found correct: the last one counts, and gets no review
        ((), 1, "1", 1),
    ],
)
def test_a_retry_stops_at_the_first_verdict_correct(
    suite: Path, verdicts: tuple[str, ...], retry: int, answer: str, requests: int
) -> None:
    made = config(suite, retry=retry, samples=1)
    batches, found = talk(first(made), attempts_then(*verdicts))
    response = found.responses[0]
    assert (response.answer, response.requests, len(batches)) == (answer, requests, requests)
    assert response.tokens == sum(len(text.split()) for text in ["it is x"] * -(-requests // 2) + ["x"] * (requests // 2))
    assert (response.skills.attempts, response.skills.reflections) == (-(-requests // 2), requests // 2)
    assert (response.skills.uses_tags, response.skills.well_formed) == (None, None)
    seeds = [request.seed for batch in batches for request in batch]
    assert len(set(seeds)) == len(seeds)
    plain = talk(first(replace(made, retry=0)), solver.answer)[0][0][0]
    assert plain.key == batches[0][0].key, "the first attempt of a retry is the response of plain sampling"


def test_a_retry_reviews_no_attempt_without_an_answer_and_falls_back_on_one_with_an_answer(suite: Path) -> None:
    texts = iter(["<answer>1</answer>", "<verdict>Incorrect</verdict>", "no idea", "nor now"])
    batches, found = talk(first(config(suite, retry=3, samples=1)), lambda _: next(texts))
    assert len(batches) == 4
    assert (found.responses[0].answer, found.responses[0].check) == ("1", Check.WRONG)


def test_samples_of_a_retry_go_on_each_by_itself(suite: Path) -> None:
    made = config(suite, retry=5, samples=40)
    batches, found = talk(first(made), solver.answer)
    assert len(batches) == 9
    assert sum(map(len, batches)) == sum(response.requests or 0 for response in found.responses) < 40 * 9
    assert len({response.requests for response in found.responses}) > 2


def test_what_the_engine_fails_on_is_a_drop_and_counts_nowhere(suite: Path) -> None:
    def broken(request: Request) -> str | Completion:
        return failed(request, "gone") if rng(request.seed, "fate").random() < 0.2 else solver.answer(request)

    summary = run(config(suite), broken)
    asked = summary.funnels[1]
    assert asked.requested == 70 * 2 + 50 * 3 + 50 * 1
    assert 40 < asked.dropped["engine_error"] < 100
    groups = summary.numbers["groups"]
    assert sum(group["responses"] for group in groups) == asked.kept
    assert sum(group["failed"] for group in groups) == asked.dropped["engine_error"]
    assert "they count in no number, and the same command asks for them again" in str(summary)
    again = run(config(suite))
    assert again.new_texts == asked.dropped["engine_error"]
    assert [group["failed"] for group in again.numbers["groups"]] == [0, 0, 0]


def test_the_numbers_are_those_of_the_stored_responses(suite: Path) -> None:
    summary = run(config(suite))
    rows = list(read_responses(summary.output, (*COLUMNS, "id", "text", "answer")))
    questions = {row["id"]: row for row in pq.read_table(summary.output / "questions").to_pylist()}
    assert len({row["id"] for row in rows}) == len(rows)
    for number, group in enumerate(summary.numbers["groups"]):
        mine = [row for row in rows if row["group"] == group["name"]]
        right = [row["answer"] == questions[row["question_id"]]["answer"] for row in mine]
        assert group["accuracy"]["value"] == pytest.approx(sum(right) / len(right))
        assert group["checks"]["right"] == sum(right)
        assert group["pass_at"]["1"] == pytest.approx(sum(right) / len(right))
        assert group["tokens"] == pytest.approx(sum(row["tokens"] for row in mine) / len(mine))
        assert list(group["pass_at"]) == [["1", "2"], ["1", "2", "3"], ["1"]][number]
    two, three, four = summary.numbers["groups"]
    harder = summary.numbers["kinds"][1]
    assert harder["groups"] == ["three", "four"]
    assert harder["accuracy"]["value"] == pytest.approx((three["accuracy"]["value"] + four["accuracy"]["value"]) / 2)
    assert harder["responses"] == 200
    assert json.loads((summary.output / NUMBERS).read_text("utf-8")) == summary.numbers
    shares = question_shares(summary.output)
    assert {name: len(found) for name, found in shares.items()} == {"two": 70, "three": 50, "four": 50}
    assert sum(shares["two"].values()) / 70 == pytest.approx(two["accuracy"]["value"])


def test_votes_quantiles_reasons_and_intervals_are_those_of_the_stored_responses(suite: Path) -> None:
    def model(request: Request) -> Completion:
        text = solver.answer(request)
        return completion(request, text, Stop.LENGTH if len(text.split()) > 40 else Stop.END)

    summary = run(config(suite), model)
    rows = list(read_responses(summary.output, COLUMNS))
    for group in summary.numbers["groups"]:
        mine = [row for row in rows if row["group"] == group["name"]]
        lengths = [row["tokens"] for row in mine]
        found = [group["token_quantiles"][name] for name in ("p5", "p50", "p95", "max")]
        assert found == pytest.approx([*np.percentile(lengths, (5, 50, 95)), max(lengths)])
        missing = [row["reason"] for row in mine if row["check"] == "missing"]
        assert group["unanswered"] == pytest.approx({code: missing.count(code) / len(mine) for code in set(missing)})
        assert group["cut"] == pytest.approx(sum(row["stop"] == "length" for row in mine) / len(mine))
        assert list(group["majority_at"]) == list(group["pass_at"])
        most = max(group["majority_at"], key=int)
        assert group["majority_at"][most] == pytest.approx(voted(mine))
        for name, values in {"pass_at": group["pass_at"], "majority_at": group["majority_at"]}.items():
            for k, (low, high) in group["bootstrap"][name].items():
                assert low <= values[k] <= high
        low, high = group["bootstrap"]["accuracy"]
        assert (low, high) == pytest.approx((group["accuracy"]["low"], group["accuracy"]["high"]), abs=0.03)
    assert summary.numbers["groups"][0]["unanswered"], "some responses have no answer"
    harder = summary.numbers["kinds"][1]
    members = summary.numbers["groups"][1:]
    assert harder["majority_at"]["1"] == pytest.approx(sum(group["majority_at"]["1"] for group in members) / 2)
    low, high = harder["bootstrap"]["accuracy"]
    assert (low, high) == pytest.approx((harder["accuracy"]["low"], harder["accuracy"]["high"]), abs=0.03)
    lengths = [row["tokens"] for row in rows if row["group"] != "two"]
    assert harder["token_quantiles"]["p50"] == pytest.approx(np.percentile(lengths, 50))


def voted(rows: Sequence[Mapping[str, Any]]) -> float:
    """The share of questions whose commonest answer is right, ties shared; answers are whole numbers here."""
    found = []
    for _, said in groupby(rows, key=itemgetter("question_id")):
        answers = [(row["answer"], row["check"] == "right") for row in said if row["answer"] is not None]
        counts = Counter(answer for answer, _ in answers)
        winners = {answer for answer in counts if counts[answer] == max(counts.values())}
        found.append(len(winners & {answer for answer, right in answers if right}) / len(winners) if winners else 0)
    return sum(found) / len(found)


@pytest.mark.parametrize(
    ("answers", "same"),
    [
        (("B", "(b)", "B.", "b)", " B "), True),
        (("1,000", "1000", "1000.0", "$1000$", r"\boxed{1000}", "1000."), True),
        (("1/2", "2/4", "0.5"), True),
        (("3 + 4", "3+4"), True),
        (("3 + 4", "4 + 3"), False),
        (("Cat", "cat"), True),
        ((r"\frac{1}{2}", "1/2", r"\dfrac{1}{2}", r"$\tfrac12$", "0.5", r"\frac 1 2", r"\frac{2}{4}", "1/2."), True),
        ((r"-\frac{1}{2}", "-1/2", r"\frac{-1}{2}"), True),
        ((r"2\frac{1}{2}", "21/2"), False),
        ((r"\frac{1}{2}", r"\frac{1}{3}"), False),
        ((r"\frac{\pi}{2}", r"\pi/2", r"\dfrac{\pi}{2}"), True),
        ((r"x + \dfrac{1}{2}", r"x+\frac{1}{2}"), True),
        ((r"\left(1, 2\right)", r"(1,\,2)", "(1,2)"), True),
        (("(1, 2)", "(1, 3)"), False),
        (("(B) a red cat", "B", "B. a red cat", "B) cat", r"\text{(B)}", "B: red"), True),
        (("(B) a red cat", "(C) a red cat"), False),
        (("(x) + 3", "x"), False),
        (("50%", "50", r"50\%", "$50", r"\$50.00"), True),
        (("50%", "0.5"), False),
        ((r"1{,}000", "1000"), True),
        (("A", "B"), False),
        (("12", "1 2 3"), False),
        (("x" * 2000, "x" * 2001), False),
    ],
)
def test_answers_that_differ_in_writing_alone_vote_together(answers: tuple[str, ...], same: bool) -> None:
    assert (len({ballot(answer) for answer in answers}) == 1) is same


def test_a_table_leaves_out_columns_that_say_nothing(suite: Path) -> None:
    heads = [str(run(config(suite, samples=n, output=suite.parent / f"{n}"))).splitlines()[0] for n in (1, 2)]
    assert "pass@k" not in heads[0]
    assert "maj@k" not in heads[0]
    assert "pass@k" in heads[1]
    assert "maj@k" in heads[1]
    assert "F1" not in heads[1], "nothing is reviewed"


def test_what_is_undefined_is_none_and_never_0() -> None:
    group = Group("g", "k", "countdown")
    numbers = measured([group], [], {})["groups"][0]
    assert (numbers["accuracy"]["value"], numbers["accuracy"]["low"]) == (None, None)
    assert [numbers[name] for name in ("f1_correct", "f1_incorrect", *MEANS)] == [None] * (2 + len(MEANS))
    assert (numbers["pass_at"], numbers["majority_at"], numbers["unanswered"]) == ({}, {}, {})
    assert numbers["token_quantiles"] == dict.fromkeys(("p5", "p50", "p95", "max"))
    assert numbers["bootstrap"] == {"accuracy": None, "pass_at": {}, "majority_at": {}}
    assert measured([group], [], {})["kinds"][0]["accuracy"]["value"] is None


def test_options_override_the_suite(suite: Path) -> None:
    made = config(suite, groups=("three", "two"), samples=7, part="dev", decoding=Plain(max_tokens=9, temperature=0.5))
    chosen = made.chosen()
    assert [(group.name, group.samples, group.part, group.max_tokens) for group in chosen] == [
        ("two", 7, "dev", 9),
        ("three", 7, "dev", 9),
    ]
    assert made.examination(chosen[0]).sampling.temperature == 0.5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"groups": ("tow",)}, r"unknown group of the suite .*'tow'; did you mean 'two'"),
        ({"samples": 0}, "samples: expected 1 or more, came 0"),
        ({"retry": -1}, "retry: expected 0 or more, came -1"),
        ({"prompts": Asking(variants_file=Path("brief"))}, "--variants-file is given without --variant"),
        ({"questions": 100_000}, "different questions, not the 100,000 that are wanted"),
    ],
)
def test_options_that_make_no_sense_are_refused_before_the_engine_starts(
    suite: Path, changes: dict[str, object], message: str
) -> None:
    def engine() -> ScriptedEngine:
        raise AssertionError("the engine was started")

    with pytest.raises((ConfigError, InputError), match=message):
        evaluate(config(suite, **changes), engine=engine)


def test_a_temperature_below_0_is_refused() -> None:
    with pytest.raises(ConfigError, match="temperature: expected 0 or more"):
        Plain(temperature=-1)


def test_a_higher_token_limit_asks_again_for_the_cut_responses_only(suite: Path) -> None:
    whole = run(config(suite))
    made = config(suite, output=suite.parent / "cut", decoding=Plain(max_tokens=20))
    cut = run(made)
    share = sum(group["cut"] * group["responses"] for group in cut.numbers["groups"])
    again = run(replace(made, decoding=Plain()))
    assert 0 < again.new_texts == round(share) < whole.new_texts
    assert again.numbers["groups"] == whole.numbers["groups"]
    assert any("max_tokens" in note for note in again.notes)


def test_a_finished_run_has_nothing_to_do(suite: Path) -> None:
    before = run(config(suite))
    again = run(config(suite))
    assert again.nothing_to_do
    assert again.numbers == before.numbers
    assert "there is nothing to do" in str(again)


class Fussy:
    """Multiplication whose check is ours to change, and fails on demand after so many checks."""

    name, levels, answer_format = "fussy", ("2",), "a number"
    right = Check.RIGHT
    patience = 10**9

    def __init__(self) -> None:
        self._task = resolve("multiplication")
        self.questions, self.question, self.canonical = self._task.questions, self._task.question, self._task.canonical

    def check(self, question: Question, answer: str) -> Grade:
        """What the real task finds, but for what is right."""
        type(self).patience -= 1
        if self.patience < 0:
            raise ZeroDivisionError("a bug in the check")
        found = self._task.check(question, answer)
        return Grade(self.right, "as told") if found.check is Check.RIGHT else found


@pytest.fixture
def fussy(tmp_path: Path) -> Iterator[EvaluateConfig]:
    yield EvaluateConfig("model", tmp_path / "run", task=("test_evaluate:Fussy:2@70",), decoding=Plain(max_tokens=100))
    Fussy.right, Fussy.patience = Check.RIGHT, 10**9


def no_engine() -> ScriptedEngine:
    raise AssertionError("the engine was started")


def test_a_check_that_crashes_loses_no_text(fussy: EvaluateConfig) -> None:
    Fussy.patience = 50
    with pytest.raises(ZeroDivisionError, match="a bug in the check"):
        run(fussy)
    stored = on_disk(fussy.output)
    assert stored >= 50
    Fussy.patience = 10**9
    summary = run(fussy)
    assert summary.new_texts == 70 * 4 - stored
    assert summary.numbers["groups"][0]["responses"] == 70 * 4


def test_a_changed_check_grades_the_stored_texts_again_without_a_model(fussy: EvaluateConfig) -> None:
    before = run(fussy)
    texts = [row["text"] for row in read_responses(fussy.output, ("text",))]
    Fussy.right = Check.WRONG
    assert run(fussy).nothing_to_do
    again = evaluate(replace(fussy, regrade=True, model="trained anew"), engine=no_engine)
    assert [row["text"] for row in read_responses(fussy.output, ("text",))] == texts
    assert before.numbers["groups"][0]["checks"]["right"] > 0 == again.numbers["groups"][0]["checks"]["right"]
    assert "graded again: 280 stored texts, no model was asked" in str(again)
    assert json.loads((fussy.output / NUMBERS).read_text("utf-8")) == again.numbers
    assert run(fussy).nothing_to_do, "the plain command takes the new grades as they are"


def test_grading_again_ends_in_the_same_bytes_and_also_after_a_crash(fussy: EvaluateConfig, tmp_path: Path) -> None:
    copy = replace(fussy, output=tmp_path / "copy")
    for each in (fussy, copy):
        run(each)
    evaluate(replace(fussy, regrade=True), engine=no_engine)
    for left in (100, 200):
        Fussy.patience = left
        with pytest.raises(ZeroDivisionError):
            evaluate(replace(copy, regrade=True), engine=no_engine)
    Fussy.patience = 10**9
    run(copy)  # a plain command goes on with it: every block is graded by the same code
    assert contents(copy.output) == contents(fussy.output)


def test_grading_again_keeps_failures_and_asks_for_nothing_that_is_missing(fussy: EvaluateConfig) -> None:
    with pytest.raises(InputError, match="holds no run whose texts could be graded again"):
        evaluate(replace(fussy, regrade=True), engine=no_engine)
    assert not fussy.output.exists()

    def broken(request: Request) -> str | Completion:
        return failed(request, "gone") if rng(request.seed, "fate").random() < 0.2 else solver.answer(request)

    before = run(fussy, broken)
    again = evaluate(replace(fussy, regrade=True), engine=no_engine)
    assert again.numbers["groups"] == before.numbers["groups"]
    assert again.numbers["groups"][0]["failed"] > 0
    with pytest.raises(ConfigError, match="a text that these settings want isn't stored, and --regrade asks no model"):
        evaluate(replace(fussy, regrade=True, samples=5), engine=no_engine)
    assert run(replace(fussy, samples=5)).numbers["groups"][0]["responses"] == 70 * 5
    (fussy.output / "run.json").write_text(
        (fussy.output / "run.json").read_text().replace('"finished": true', '"finished": false')
    )
    with pytest.raises(ConfigError, match="isn't finished; the same command without --regrade goes on with it"):
        evaluate(replace(fussy, regrade=True, samples=5), engine=no_engine)


def test_tasks_take_the_place_of_a_suite(suite: Path) -> None:
    made = replace(config(suite), suite=None, task=("multiplication:2@9", "acronym:mini"), option={"acronym.x": 1})
    made = replace(made, questions=5)
    with pytest.raises(ConfigError, match="unknown option of task acronym: 'x'"):
        made.chosen()
    made = replace(made, option={}, samples=1)
    assert [group.questions for group in made.chosen()] == [9, 5]
    summary = run(replace(made, groups=("multiplication-2",)))
    assert [(group["name"], group["questions"]) for group in summary.numbers["groups"]] == [("multiplication-2", 9)]
    assert summary.numbers["suite"] == "multiplication:2@9, acronym:mini"
    assert [group.name for group in stored_groups(made.output)] == ["multiplication-2"]


def test_benchmarks_are_graded_as_their_papers_do(tmp_path: Path) -> None:
    """Small files in the public schemas; the model writes right answers in other forms, then wrong ones."""
    data = Path(__file__).parent / "data"
    files = {"gpqa": "gpqa_diamond.csv", "aime2025": "aime25.jsonl", "amc2023": "amc23.jsonl", "math500": "math500.jsonl"}
    tasks = (*files, "commonsenseqa", "gsm8k")
    sources = {name: str(data / {**files, "commonsenseqa": "commonsense_qa", "gsm8k": "gsm8k"}[name]) for name in tasks}
    option = {f"{name}.source": source for name, source in sources.items()}
    golds: dict[str, tuple[str, str]] = {}
    for name in tasks:
        for question in resolve(name, {"source": sources[name]}).questions(None, "all", 0, "eval"):
            if isinstance(question, Question):
                golds[question.prompt] = name, question.answer
    forms = {
        "gpqa": "({})",
        "commonsenseqa": "{}.",
        "aime2025": "{:0>3}",
        "amc2023": "${}$",
        "math500": r"\boxed{{{}}}",
        "gsm8k": "{}.00",
    }

    def model(request: Request) -> str:
        name, gold = golds[request.messages[-1][1]]
        return f"So: <answer>{forms[name].format(gold)}</answer>"

    made = EvaluateConfig("model", tmp_path / "run", task=tasks, option=option, samples=2)
    groups = run(made, model).numbers["groups"]
    assert [group["name"] for group in groups] == list(tasks)
    assert [group["accuracy"]["value"] for group in groups] == [1.0] * len(tasks)
    assert sum(group["questions"] for group in groups) == len(golds) > 10
    wrong = run(replace(made, output=tmp_path / "wrong"), lambda _: "<answer>977</answer>").numbers["groups"]
    assert [group["accuracy"]["value"] for group in wrong] == [0.0] * len(tasks)


def test_a_suite_and_tasks_at_once_and_options_without_a_task_are_refused(suite: Path) -> None:
    with pytest.raises(ConfigError, match=r"--task and --suite .* are given: say what to ask with one of them"):
        config(suite, task=("countdown",))
    with pytest.raises(ConfigError, match="--option is given without --task"):
        config(suite, option={"use_all": "true"})


@pytest.mark.parametrize(
    ("recipe", "flags", "asked"),
    [
        ("suite: paper", ("--task", "countdown:4@5"), (None, ["countdown:4@5"])),
        ("task: sums\n  option: {a: 1}", ("--suite", "math"), ("math", [])),
        ("suite: paper", ("--samples", "2"), ("paper", [])),
    ],
)
def test_what_to_ask_on_the_command_line_takes_the_place_of_what_the_recipe_asks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], recipe: str, flags: tuple[str, ...], asked: tuple[str, list[str]]
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(f"evaluate:\n  model: m\n  output: o\n  top_k: 20\n  {recipe}\n", "utf-8")
    assert main(["evaluate", "--recipe", str(path), *flags, "--show-recipe"]) == 0
    shown = yaml.safe_load(capsys.readouterr().out)["evaluate"]
    assert (shown["suite"], shown["task"]) == asked
    assert shown["decoding"]["top_k"] == 20
    assert main(["evaluate", "m", "--output", "o", "--suite", "math", "--task", "countdown:4@5"]) != 0
    assert "say what to ask with one of them" in capsys.readouterr().err


def test_a_model_trained_again_in_its_folder_is_another_model(suite: Path) -> None:
    folder = suite.parent / "trained"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"one")
    run(config(suite, model=str(folder)))
    moved = folder.rename(suite.parent / "moved")
    (moved.parent / "other").mkdir()
    (moved.parent / "other" / "trained").mkdir()
    (moved.parent / "other" / "trained" / "model.safetensors").write_bytes(b"one")
    assert run(config(suite, model=str(moved.parent / "other" / "trained"))).nothing_to_do
    (moved.parent / "other" / "trained" / "model.safetensors").write_bytes(b"two")
    with pytest.raises(ConfigError, match=r"holds texts of the model 'trained \(files .*choose another directory"):
        run(config(suite, model=str(moved.parent / "other" / "trained")))


def test_a_run_killed_at_random_moments_ends_in_the_bytes_of_an_undisturbed_one(suite: Path, tmp_path: Path) -> None:
    options = ["model", "--suite", str(suite), "--retry", "3", "--quiet", "--engine", "scripted"]
    pace = ["delay=0.01", "concurrency=20", "answer=solver:answer"]
    options += [part for option in pace for part in ("--engine-option", option)]
    killed, random = tmp_path / "killed", Random(3)
    command = [sys.executable, "-m", "skillfactory", "evaluate", *options, "--output", str(killed)]
    for _ in range(2):
        goal = on_disk(killed) + random.randrange(100, 250)
        process = subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL)
        while process.poll() is None and on_disk(killed) < goal:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert not (killed / NUMBERS).exists()
    same = Answering("scripted", dict(option.split("=") for option in pace))
    resumed = run(config(suite, output=killed, retry=3, generation=same))
    whole = run(config(suite, output=tmp_path / "whole", retry=3, generation=same))
    assert 0 < resumed.new_texts < whole.new_texts
    assert contents(killed) == contents(tmp_path / "whole")


def test_a_real_model_gives_the_same_bytes_with_any_batch_size(suite: Path, tmp_path: Path) -> None:
    model = save_tiny_model(tmp_path / "model", context=1024)
    found = []
    for size in (16, 64):
        made = config(suite, model=str(model), questions=5, retry=2, output=tmp_path / str(size), decoding=Plain(max_tokens=12))
        answering = Answering("transformers", {"threads": 1, "batch_size": size})
        summary = evaluate(replace(made, generation=answering))
        found.append({table: pq.read_table(tmp_path / str(size) / table) for table in ("questions", "responses")})
        assert summary.numbers["kinds"][0]["tokens"] > 0
    assert found[0] == found[1]
    assert (tmp_path / "16" / NUMBERS).read_text() == (tmp_path / "64" / NUMBERS).read_text()


def test_questions_without_a_row_of_the_data_are_told(tmp_path: Path) -> None:
    rows = [{"question": f"Say {n}.", "answer": f"#### {n}" if n % 5 else "no gold"} for n in range(40)]
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    suite = tmp_path / "suite.yaml"
    suite.write_text(f"groups: [{{name: w, kind: k, task: gsm8k, option: {{source: {data}}}, part: all, samples: 1}}]", "utf-8")
    summary = run(config(suite), lambda request: "<answer>1</answer>")
    funnel = summary.funnels[0]
    assert funnel.dropped
    assert funnel.kept == summary.numbers["groups"][0]["questions"]


def test_every_question_of_a_flow_is_the_tasks(suite: Path) -> None:
    question = next(iter(resolve("multiplication").questions(1, "2", 0, "eval")))
    assert isinstance(question, Question)
    how = config(suite).examination(config(suite).chosen()[0])
    found = talk(respond(question, how), solver.answer)[1].responses
    assert [response.id for response in found] == [f"two/{question.id}/{n}" for n in range(2)]
