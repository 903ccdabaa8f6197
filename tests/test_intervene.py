"""Laws of the causal test: which reflections it takes, what it does to them, what it counts, and what it stores."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import solver
from test_run import contents

from skillfactory.engines.scripted import ScriptedEngine, ScriptedOptions, begun
from skillfactory.errors import ConfigError, InputError
from skillfactory.evaluate import Answering, EvaluateConfig
from skillfactory.evaluation import evaluate
from skillfactory.flow import Completion, Request, failed
from skillfactory.intervene import InterveneConfig, Place, Spare, Step, places, step, treated
from skillfactory.intervention import intervention
from skillfactory.records import Verdict
from skillfactory.seeds import rng
from skillfactory.summary import Summary

Model = Callable[[Request], str | Completion]
SUITE = """
groups:
  - {name: two, kind: in-domain, task: multiplication, level: 2, questions: 30, samples: 2, max_tokens: 200}
  - {name: three, kind: harder, task: multiplication, level: 3, questions: 20, samples: 1, max_tokens: 200}
"""
TRACE = (
    "<think>\n<sample>\none <answer>1</answer>\n</sample>\n<reflect>\nno.\n<verdict>Incorrect</verdict>\n</reflect>\nAgain.\n"
    "<sample>\ntwo <answer>2</answer>\n</sample>\n<reflect>\nyes.\n<verdict>Correct</verdict>\n</reflect>\n</think>\n\n"
    "<answer>2</answer>"
)


def obedient(request: Request) -> str:
    """A model that tries again after Incorrect, stops after Correct, and reflects rightly; some of its texts have no tags."""
    random = rng(request.seed, "obedient")
    text, right = begun(request), solver.product(request.messages[-1][1])
    if not text and random.random() < 0.2:
        return f"<answer>{right}</answer>"
    new = "" if text else "<think>\n"
    said = (
        text.rpartition("<verdict>")[2].partition("</verdict>")[0] if text.rstrip().endswith("</verdict>\n</reflect>") else ""
    )
    value = text.rpartition("<answer>")[2].partition("</answer>")[0] if text.rstrip().endswith("</sample>") else ""
    for _ in range(6):
        if said == "Correct":
            value = (text + new).rpartition("<answer>")[2].partition("</answer>")[0]
            return new + f"</think>\n\n<answer>{value}</answer>"
        if not value:
            value = str(right + random.randrange(3))
            new += f"<sample>\ntry <answer>{value}</answer>\n</sample>\n"
        said = "Correct" if value == str(right) else "Incorrect"
        new += f"<reflect>\nhm {random.randrange(99)}\n<verdict>{said}</verdict>\n</reflect>\n"
        value = ""
    return new


@pytest.fixture
def evaluated(tmp_path: Path) -> Path:
    suite = tmp_path / "suite.yaml"
    suite.write_text(SUITE, "utf-8")
    made = EvaluateConfig(
        "m", tmp_path / "evaluated", str(suite), generation=Answering("scripted", {"answer": "solver:answer"})
    )
    return evaluate(made, engine=lambda: ScriptedEngine(ScriptedOptions(obedient))).output


def config(evaluated: Path, **changes: object) -> InterveneConfig:
    made = InterveneConfig(evaluated, evaluated.parent / "out", generation=Answering("scripted", {"answer": "solver:answer"}))
    return replace(made, **changes)  # type: ignore[arg-type]


def run(config: InterveneConfig, model: Model = obedient, concurrency: int = 64) -> Summary:
    return intervention(config, engine=lambda: ScriptedEngine(ScriptedOptions(model, concurrency=concurrency)))


def first(text: str = TRACE) -> Place:
    return places(text)[0]


@pytest.mark.parametrize(
    ("text", "verdicts"),
    [
        (TRACE, [Verdict.INCORRECT, Verdict.CORRECT]),
        ("<answer>1</answer>", []),
        (TRACE.partition("</think>")[0].rstrip(), [Verdict.INCORRECT]),  # the last one has nothing after it
        (TRACE.partition("\n</reflect>\n</think>")[0], [Verdict.INCORRECT]),  # and here it is not closed
        (TRACE.replace("Incorrect", "perhaps"), [Verdict.CORRECT]),
        (TRACE.replace("Again.\n<sample>\ntwo <answer>2</answer>\n</sample>", "Hm."), [Verdict.INCORRECT]),  # of no attempt
        (TRACE.replace("<think>", "").replace("</think>", ""), [Verdict.INCORRECT, Verdict.CORRECT]),
        ("<reflect>" * 50, []),
        ("", []),
    ],
)
def test_a_reflection_is_taken_that_judges_an_attempt_and_has_something_after_it(text: str, verdicts: list[Verdict]) -> None:
    assert [place.verdict for place in places(text)] == verdicts
    for place in places(text):
        assert text[place.start : place.end].startswith("<reflect>\n" + place.body)
        assert text[place.start : place.end].rstrip().endswith("</reflect>")


def test_each_way_changes_the_reflection_and_nothing_before_it() -> None:
    head = "<think>\n<sample>\none <answer>1</answer>\n</sample>\n"
    spare = Spare("other", "fine\n<verdict>Correct</verdict>")
    assert {way: treated(TRACE, first(), way, spare) for way in ("keep", "drop", "blank", "flip", "swap")} == {
        "keep": (head + "<reflect>\nno.\n<verdict>Incorrect</verdict>\n</reflect>\n", Verdict.INCORRECT),
        "drop": (head, Verdict.ABSENT),
        "blank": (head + "<reflect>\n</reflect>\n", Verdict.ABSENT),
        "flip": (head + "<reflect>\nno.\n<verdict>Correct</verdict>\n</reflect>\n", Verdict.CORRECT),
        "swap": (head + "<reflect>\nfine\n<verdict>Correct</verdict>\n</reflect>\n", Verdict.CORRECT),
    }
    assert treated(TRACE, first(), "swap", None) is None


def test_what_comes_first_after_the_reflection_is_the_next_step() -> None:
    assert [step(TRACE, count) for count in range(3)] == [Step.ATTEMPT, Step.ATTEMPT, Step.ANSWER]
    assert step("<think>\n<sample>\nand so on", 1) is Step.NONE
    assert step("</think> <sample>", 0) is Step.ANSWER


def test_a_continuation_has_the_room_that_the_kept_text_left_or_what_is_asked_for(evaluated: Path) -> None:
    asked: list[Request] = []

    def seen(request: Request) -> str:
        asked.append(request)
        return obedient(request)

    rows = {row["id"]: row for row in pq.read_table(evaluated / "responses").to_pylist()}
    run(config(evaluated, ways=("drop",)), seen)
    kept = 0
    for request in asked:
        assert request.start
        whole = [row for row in rows.values() if row["text"].startswith(request.start.then)]
        shares = {round(row["tokens"] * len(request.start.then) / len(row["text"])) for row in whole}
        kept += request.sampling.max_tokens in {200 - share for share in shares}
        assert request.sampling.max_tokens < 200
    assert kept >= len(asked) / 2, "all of the control"
    asked.clear()
    run(config(evaluated, output=evaluated.parent / "other", ways=("drop",), max_tokens=77), seen)
    assert {request.sampling.max_tokens for request in asked} == {77}


def test_a_response_and_its_continuation_are_graded_by_the_same_verifier(evaluated: Path) -> None:
    """Whatever the run had stored."""
    part = next((evaluated / "responses").glob("*.parquet"))
    stored = pq.read_table(part)
    checks = pa.array(["wrong"] * len(stored))
    pq.write_table(stored.set_column(stored.column_names.index("check"), "check", checks), part)
    made = config(evaluated)
    summary = run(made)
    rows = pq.read_table(summary.output / "continuations").to_pylist()
    assert "right" in {row["original_check"] for row in rows}
    for row in rows:
        assert row["changed_answer"] or row["check"] == row["original_check"]


def test_a_verifier_that_changes_is_another_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "judged_here.py"
    module.write_text(
        "from skillfactory.tasks.multiplication import Multiplication\n\n\nclass Judged(Multiplication):\n    pass\n", "utf-8"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    asked = EvaluateConfig(
        "m",
        tmp_path / "evaluated",
        task=("judged_here:Judged:2@8",),
        generation=Answering("scripted", {"answer": "solver:answer"}),
    )
    made = config(evaluate(asked, engine=lambda: ScriptedEngine(ScriptedOptions(obedient))).output)
    run(made)
    assert run(made).outcome.nothing_to_do
    module.write_text(module.read_text("utf-8") + "\n# another check\n", "utf-8")
    again = run(made)
    assert not again.outcome.nothing_to_do
    assert again.outcome.tally.texts == 0


def test_an_empty_continuation_is_one_too(evaluated: Path) -> None:
    summary = run(config(evaluated), lambda request: "")
    assert "no_room" not in summary.funnels[0].dropped
    assert summary.funnels[0].kept > 0


def test_a_model_that_obeys_its_verdicts_is_seen_to(evaluated: Path) -> None:
    for group in run(config(evaluated)).numbers["groups"]:
        ways = group["ways"]
        assert list(ways) == ["keep", "drop", "blank", "flip", "swap"]
        assert ways["keep"]["changed_step"]["value"] == 0
        assert ways["keep"]["against_control"] is None
        assert ways["flip"]["changed_step"]["value"] == 1
        assert ways["flip"]["against_control"]["changed_step"]["value"] == 1
        for way in ("keep", "flip", "swap"):
            after = ways[way]["steps_after"]
            assert after["correct"]["attempt"] == after["incorrect"]["answer"] == 0
            assert after["correct"]["answer"] > 0
            assert after["incorrect"]["attempt"] > 0
        assert list(ways["drop"]["steps_after"]) == ["absent"]
        assert ways["drop"]["changed_step"]["value"] == 0, "it reflects anew, and as rightly"
        lost = {way: numbers["right_to_wrong"]["value"] for way, numbers in ways.items()}
        assert lost["flip"] > lost["keep"], "a wrong attempt that is called Correct is what it answers"


def test_the_numbers_are_those_of_the_stored_rows(evaluated: Path) -> None:
    summary = run(config(evaluated, samples=2))
    rows = pq.read_table(summary.output / "continuations").to_pylist()
    account = summary.funnels[0]
    assert account.requested == 30 * 2 + 20
    assert 0 < account.dropped["no_reflection"] < account.requested
    assert Counter(row["way"] for row in rows) == dict.fromkeys(("keep", "drop", "blank", "flip", "swap"), 2 * account.kept)
    assert len({row["key"] for row in rows}) == len(rows)
    for group in summary.numbers["groups"]:
        for way, numbers in group["ways"].items():
            mine = [row for row in rows if (row["group"], row["way"]) == (group["name"], way)]
            assert numbers["continuations"] == len(mine)
            questions: dict[str, list[bool]] = {}
            for row in mine:
                lost = row["original_check"] == "right" and row["check"] != "right"
                questions.setdefault(row["question_id"], []).append(lost)
                assert row["changed_step"] == (row["step"] != row["original_step"])
                assert row["changed_answer"] == (row["answer"] != row["original_answer"])
            shares = [sum(lost) / len(lost) for lost in questions.values()]
            assert numbers["right_to_wrong"]["value"] == pytest.approx(sum(shares) / len(shares))
            assert numbers["right_to_wrong"]["n"] == len(questions) <= group["questions"]
    assert str(summary).splitlines()[0].split()[:3] == ["group", "way", "n"]


def test_groups_of_one_kind_have_a_mean(tmp_path: Path) -> None:
    suite = tmp_path / "suite.yaml"
    suite.write_text(SUITE.replace("in-domain", "harder"), "utf-8")
    generation = Answering("scripted", {"answer": "solver:answer"})
    asked = EvaluateConfig("m", tmp_path / "evaluated", str(suite), generation=generation)
    summary = run(config(evaluate(asked, engine=lambda: ScriptedEngine(ScriptedOptions(obedient))).output))
    (kind,) = summary.numbers["kinds"]
    two, three = summary.numbers["groups"]
    assert kind["groups"] == ["two", "three"]
    assert kind["questions"] == two["questions"] + three["questions"]
    for way, mean in kind["ways"].items():
        first, second = two["ways"][way], three["ways"][way]
        assert mean["continuations"] == first["continuations"] + second["continuations"]
        assert mean["right"]["value"] == pytest.approx((first["right"]["value"] + second["right"]["value"]) / 2)
        if way != "keep":
            more = [each["against_control"]["changed_answer"]["value"] for each in (first, second, mean)]
            assert more[2] == pytest.approx((more[0] + more[1]) / 2)
    assert sum(line.startswith("mean harder") for line in summary.lines) == 5


def test_continuations_begin_with_the_text_before_and_swaps_come_from_other_questions(evaluated: Path) -> None:
    rows = pq.read_table(run(config(evaluated)).output / "continuations").to_pylist()
    texts = {row["id"]: row["text"] for row in pq.read_table(evaluated / "responses").to_pylist()}
    for row in rows:
        original = texts[row["response_id"]]
        starts = [treated(original, place, row["way"], None) for place in places(original)]
        heads = [start[0] for start in starts if start] or [original[: place.start] for place in places(original)]
        assert any(row["text"].startswith(head.rstrip()) for head in heads)
        assert row["forced"] > 0
        assert row["tokens"] > 0


def test_fewer_questions_and_ways_give_the_same_continuations(evaluated: Path) -> None:
    whole = run(config(evaluated))
    some = run(config(evaluated, output=evaluated.parent / "some", questions=9, ways=("flip",), groups=("two",)))
    keys = {row["key"] for row in pq.read_table(whole.output / "continuations").to_pylist()}
    rows = pq.read_table(some.output / "continuations").to_pylist()
    assert {row["key"] for row in rows} <= keys
    assert {row["way"] for row in rows} == {"keep", "flip"}
    assert some.funnels[0].requested == 18


def test_any_batch_size_and_a_kill_on_the_way_give_the_same_bytes(evaluated: Path) -> None:
    whole = run(config(evaluated))
    asked = 0

    def dying(request: Request) -> str:
        nonlocal asked
        asked += 1
        if asked == 100:
            raise KeyboardInterrupt
        return obedient(request)

    other = config(evaluated, output=evaluated.parent / "other")
    with pytest.raises(KeyboardInterrupt):
        run(other, dying, concurrency=5)
    run(other, dying, concurrency=5)
    assert contents(other.output) == contents(whole.output)
    assert run(other).outcome.nothing_to_do


def test_a_response_on_which_the_engine_failed_is_a_drop_with_all_its_continuations(evaluated: Path) -> None:
    def broken(request: Request) -> str | Completion:
        return failed(request, "gone") if rng(request.seed, "fate").random() < 0.05 else obedient(request)

    summary = run(config(evaluated), broken)
    account = summary.funnels[0]
    assert account.dropped["engine_error"] > 0
    rows = pq.read_table(summary.output / "continuations").to_pylist()
    assert set(Counter(row["response_id"] for row in rows).values()) == {5}
    assert len(rows) == 5 * account.kept


def test_what_can_not_be_tested_is_refused_with_the_remedy(evaluated: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere: expected a finished run of `skillfactory evaluate`"):
        run(config(evaluated, run=tmp_path / "nowhere"))
    with pytest.raises(
        ConfigError, match=r"its responses are of the model 'm \(.*\)', and 'other' is 'other \(.*\)'; give the"
    ):
        run(config(evaluated, model="other"))
    with pytest.raises(ConfigError, match=r"unknown group of .* 'tow'; did you mean 'two'"):
        run(config(evaluated, groups=("tow",)))
    with pytest.raises(ConfigError, match="samples: expected 1 or more, came 0"):
        config(evaluated, samples=0)
    with pytest.raises(ConfigError, match="ways: expected some of drop, blank, flip, swap, came none"):
        config(evaluated, ways=())
    run_json = evaluated / "run.json"
    finished = run_json.read_text("utf-8")
    run_json.write_text(finished.replace('"finished": true', '"finished": false'), "utf-8")
    with pytest.raises(InputError, match="evaluated: the evaluation isn't finished; `skillfactory evaluate` with its options"):
        run(config(evaluated))
    run_json.write_text(finished, "utf-8")
    run_json.write_text(run_json.read_text("utf-8").replace('"retry": 0', '"retry": 3'), "utf-8")
    with pytest.raises(InputError, match="its responses were retried outside of the model"):
        run(config(evaluated))
