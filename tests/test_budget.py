"""Laws of budget forcing: how far responses go on, what counts at a budget, what equal tokens buy, what is stored."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import solver
from test_run import contents
from transformers import AutoTokenizer

from skillfactory.budget import BudgetConfig, Chance, flows
from skillfactory.budgeting import NUMBERS, budget, read_votes
from skillfactory.embedded import located
from skillfactory.engines.scripted import ScriptedEngine, ScriptedOptions, begun
from skillfactory.errors import ConfigError, EngineError
from skillfactory.evaluate import Answering
from skillfactory.evaluate import flows as evaluation_flows
from skillfactory.flow import Completion, Flow, Request, failed
from skillfactory.forcing import Closed, Forced, Forcing, Voter, bought, majority
from skillfactory.records import Check, Stop
from skillfactory.seeds import rng
from skillfactory.summary import Summary

Model = Callable[[Request], str | Completion]
SUITE = """
groups:
  - {name: two, kind: in-domain, task: multiplication, level: 2, questions: 40, samples: 2}
  - {name: three, kind: harder, task: multiplication, level: 3, questions: 30, samples: 1}
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    path = tmp_path / "suite.yaml"
    path.write_text(SUITE, "utf-8")
    return path


def config(suite: Path, **changes: object) -> BudgetConfig:
    forcing = Forcing(budgets=(30, 60, 120))
    made = BudgetConfig(
        "model",
        suite.parent / "run",
        str(suite),
        forcing=forcing,
        generation=Answering("scripted", {"answer": "test_budget:thinker"}),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def forced(suite: Path, **changes: object) -> BudgetConfig:
    made = config(suite)
    return replace(made, forcing=replace(made.forcing, **changes))  # type: ignore[arg-type]


def thinker(request: Request) -> str:
    """A model that thinks in tagged attempts, more of them right than its plain ones; a pure function of the request."""
    random = rng(request.seed, "thinker")
    right = solver.product(request.messages[-1][1])
    text = "" if "<think>" in begun(request) else "<think>\n<sample>\n"
    for _ in range(1 + random.randrange(3)):
        value = right + random.randrange(2)
        text += (
            "step " * random.randrange(3, 25) + f"<answer>{value}</answer>\n</sample>\n<reflect>\nhm\n</reflect>\n<sample>\n"
        )
    return text + f"</sample>\n</think>\n\n<answer>{value}</answer>"


def run(config: BudgetConfig, model: Model = thinker, concurrency: int = 64) -> Summary:
    return budget(config, engine=lambda: ScriptedEngine(ScriptedOptions(model, concurrency=concurrency)))


def talk(flow: Flow[Forced], model: Model) -> tuple[list[Sequence[Request]], Forced]:
    """The batches that a flow asks for, and its result."""
    engine = ScriptedEngine(ScriptedOptions(model, concurrency=1000))
    batches: list[Sequence[Request]] = []
    sent: list[Completion] = []
    while True:
        try:
            batches.append(flow.send(sent) if sent else next(flow))
        except StopIteration as end:
            return batches, end.value
        engine.submit(batches[-1])
        sent = list(engine.collect())


def first(config: BudgetConfig, model: Model) -> tuple[list[Sequence[Request]], Forced]:
    return talk(next(flows(config, config.evaluation().chosen())), model)


def test_the_first_round_asks_what_evaluate_asks(suite: Path) -> None:
    made = config(suite)
    batches, _ = first(made, thinker)
    same = made.evaluation()
    plain = next(next(evaluation_flows(same, same.chosen())))
    assert [request.key for request in batches[0]] == [request.key for request in plain]
    assert {request.sampling.max_tokens for request in batches[0]} == {30}
    assert all(request.ids and request.start is None for request in batches[0])


def test_each_round_goes_on_where_the_last_ended_with_the_trigger_in_place_of_the_end(suite: Path) -> None:
    _, found = first(forced(suite, trigger="Wait, ", vote=False), thinker)
    for response in found.responses:
        for before, after in zip(response.rounds, response.rounds[1:], strict=False):
            kept = before.text.partition("</think>")[0]
            assert after.text.startswith((kept + "Wait,").strip()[: len(kept)])
            assert after.text[len(kept.rstrip()) :].lstrip().startswith("Wait,")
            assert before.text.count("</think>") <= 1
            assert after.text.count("Wait,") == after.number
            assert after.forced == 1


def test_what_is_spent_is_what_was_generated_and_forced_and_no_budget_is_passed(suite: Path) -> None:
    batches, found = first(forced(suite, vote=False), thinker)
    assert len(batches) == 3
    for response in found.responses:
        spent = 0
        for each in response.rounds:
            spent += each.tokens + each.forced
            assert each.spent == spent
            assert each.tokens > 0
            assert sum(other.tokens for other in response.rounds[: each.number + 1]) <= each.budget
            assert each.forced == (each.number > 0)  # <sample> is a word
        asked = [request for batch in batches for request in batch if request.seed]
        assert len({request.seed for request in asked}) == len(asked)


def model_of(*texts: str) -> Model:
    """A model that says these texts in turn."""
    said = iter(texts)
    return lambda request: next(said)


def one(suite: Path, **changes: object) -> BudgetConfig:
    return replace(forced(suite, **changes), samples=1)


@pytest.mark.parametrize(
    ("texts", "answers", "reasons"),
    [
        (("<think>a</think><answer>1</answer>", "b</think><answer>2</answer>", "c"), ["1", "2", None], ["unclosed_think"]),
        (("<think>a " + "b " * 40, "c</think> <answer>2</answer>", "c"), [None, "2", None], ["unclosed_think"] * 2),
        (("<answer>1</answer>", " <answer>2</answer>", " no"), ["1", "2", "2"], []),
    ],
)
def test_at_a_budget_the_text_counts_as_it_stands(
    suite: Path, texts: tuple[str, ...], answers: list[str | None], reasons: list[str]
) -> None:
    _, found = first(one(suite, vote=False), model_of(*texts))
    rounds = found.responses[0].rounds
    assert [each.answer for each in rounds] == answers
    assert [each.reason for each in rounds if each.answer is None] == reasons
    assert [each.check for each in rounds] == [Check.MISSING if answer is None else Check.WRONG for answer in answers]


def test_where_there_is_no_answer_one_can_be_made_and_its_tokens_count(suite: Path) -> None:
    texts = ("<think>a", "b c </think>", "<answer>4 5", "7 </answer>", "8</answer>", "9</answer>")
    batches, found = first(one(suite, vote=False, close=9), model_of(*texts))
    rounds = found.responses[0].rounds
    assert [each.answer for each in rounds] == [None, None, None]
    assert [each.closed and each.closed.answer for each in rounds] == ["7", "8", "9"]
    starts = [request.start for request in batches[-1]]
    assert [start.then for start in starts if start] == ["\n</think>\n\n<answer>\n", "\n<answer>\n", "\n</think>\n\n<answer>\n"]
    assert {request.sampling.max_tokens for request in batches[-1]} == {9}
    assert rounds[0].closed
    assert rounds[0].closed.tokens == 2 + 2  # "7 </answer>", "</think> <answer>"
    assert rounds[0].spent == 1


def test_a_closed_thinking_that_is_cut_in_its_answer_is_only_let_go_on(suite: Path) -> None:
    texts = ("<think>a</think> <answer>4 " + "+ " * 40, "c", "d", "5</answer>", "x</answer>", "y</answer>")
    batches, found = first(one(suite, vote=False, close=9), model_of(*texts))
    assert found.responses[0].rounds[0].reason == "unclosed_answer"
    start = batches[-1][0].start
    assert start
    assert start.then == ""


def test_a_context_that_is_full_leaves_the_response_as_it_stood_and_is_counted(suite: Path) -> None:
    def full(request: Request) -> str | Completion:
        if request.start is None:
            return "<think>a</think><answer>1</answer>"
        return Completion("", begun(request), Stop.LENGTH, 99, 0, 0, "the model's context left 0 of 9 tokens", 1, ())

    _, found = first(forced(suite, vote=False), full)
    for response in found.responses:
        assert [each.no_room for each in response.rounds] == [False, True, True]
        assert {(each.answer, each.spent) for each in response.rounds} == {("1", 1)}
    summary = run(forced(suite), full)
    assert [each["no_room"] for each in summary.numbers["groups"][0]["rounds"]] == [0, 1, 1]


def test_a_text_that_ends_at_once_is_empty_and_no_lack_of_room(suite: Path) -> None:
    summary = run(replace(forced(suite, close=8), questions=6), lambda request: "")
    rounds = summary.numbers["groups"][0]["rounds"]
    assert [each["no_room"] for each in rounds] == [0, 0, 0]
    assert [each["forcing"]["tokens"] for each in rounds] == [0, 1, 2], "the triggers"
    assert [each["closed"]["tokens"] for each in rounds] == [1, 2, 3], "<answer>"
    assert rounds[0]["forcing"]["accuracy"]["value"] == 0
    _, found = first(forced(suite, vote=False), model_of(*["<answer>1</answer>"] * 2, *[""] * 4))
    assert [each.answer for each in found.responses[0].rounds] == ["1", "1", "1"]


def voters(*answers: str | None, right: str = "r") -> list[Voter]:
    """Samples of 10 tokens with these answers."""
    checks = [Check.MISSING if each is None else Check.RIGHT if each == right else Check.WRONG for each in answers]
    return [Voter(n, "", each, check, 10, None) for n, (each, check) in enumerate(zip(answers, checks, strict=True))]


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (["r"], 1.0),
        ([None], 0.0),
        (["r", "w"], 0.5),
        (["r", "w", "v"], 1 / 3),
        (["r", "w", " w"], 0.0),
        (["r", None, None], 1.0),
        (["r", "r", "w", "w", None, "v"], 0.5),
    ],
)
def test_the_commonest_answer_wins_and_equally_common_ones_as_often(answers: list[str | None], expected: float) -> None:
    assert majority(voters(*answers)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("tokens", "samples", "right"),
    [(10, 1, 1.0), (3, 1, 1.0), (20, 2, 0.5), (30, 3, 0.0), (25, 2.5, 0.25), (14, 1.4, 0.8), (99, 3, 0.0)],
)
def test_tokens_pay_for_whole_samples_and_for_a_part_of_the_next(tokens: int, samples: float, right: float) -> None:
    found = bought(voters("r", "w", "w"), tokens)
    assert [found.samples, found.right] == pytest.approx([samples, right])
    assert found.tokens == min(30, max(10, tokens))


@pytest.mark.parametrize(
    ("tokens", "right"),
    [(10, 0.0), (12, 0.25), (18, 1.0)],  # as it stands, closed in part, closed
)
def test_the_first_sample_is_made_to_answer_as_far_as_the_tokens_pay_for_it(tokens: int, right: float) -> None:
    first = Voter(0, "", None, Check.MISSING, 10, Closed("r", Check.RIGHT, 8))
    found = bought([first, first], tokens, closed=True)
    assert [found.right, found.tokens, found.samples] == pytest.approx([right, tokens, 1])


def test_a_vote_of_independent_samples_is_right_as_often_as_it_must_be() -> None:
    chances = {"r": 0.5, "w": 0.3, "v": 0.2}
    expected = sum(
        math.prod(chances[answer] for answer in drawn) * majority(voters(*drawn)) for drawn in product(chances, repeat=3)
    )
    random = rng(0, "vote")
    drawn = [bought(voters(*random.choices(list(chances), list(chances.values()), k=5)), 30).right for _ in range(4000)]
    assert sum(drawn) / 4000 == pytest.approx(expected, abs=4 * 0.5 / 4000**0.5)


def test_the_vote_costs_what_the_response_cost_in_every_round(suite: Path) -> None:
    made = forced(suite, close=8)
    for flow in [flow for _, flow in zip(range(12), flows(made, made.evaluation().chosen()), strict=False)]:
        for response in talk(flow, thinker)[1].responses:
            assert response.voters[0].key == response.rounds[0].key
            assert len({voter.key for voter in response.voters}) == len(response.voters)
            for each in response.rounds:
                assert each.vote
                assert each.vote.tokens == each.spent
                assert each.closed_vote
                assert each.closed
                assert each.closed_vote.tokens == each.spent + each.closed.tokens
            assert response.rounds[0].vote
            assert response.rounds[0].vote.samples == 1
            assert sum(voter.tokens for voter in response.voters) >= response.rounds[-1].spent


def test_the_numbers_are_those_of_the_stored_rows(suite: Path) -> None:
    summary = run(forced(suite, close=8))
    rows = pq.read_table(summary.output / "responses").to_pylist()
    assert len(rows) == 3 * (40 * 2 + 30)
    for group in summary.numbers["groups"]:
        for number, each in enumerate(group["rounds"]):
            mine = [row for row in rows if (row["group"], row["round"]) == (group["name"], number)]
            assert each["forcing"]["accuracy"]["value"] == pytest.approx(
                sum(row["check"] == "right" for row in mine) / len(mine)
            )
            assert each["forcing"]["tokens"] == pytest.approx(sum(row["spent"] for row in mine) / len(mine))
            assert each["vote"]["accuracy"]["value"] == pytest.approx(sum(row["vote_right"] for row in mine) / len(mine))
            assert each["vote"]["tokens"] == pytest.approx(each["forcing"]["tokens"])
            gain = each["forcing"]["accuracy"]["value"] - each["vote"]["accuracy"]["value"]
            assert each["gain"]["value"] == pytest.approx(gain)
            missing = sum(row["check"] == "missing" for row in mine) / len(mine)
            assert sum(each["unanswered"].values()) == pytest.approx(missing)
    assert json.loads((summary.output / NUMBERS).read_text("utf-8")) == summary.numbers
    assert [kind["kind"] for kind in summary.numbers["kinds"]] == ["in-domain", "harder", "all"]
    two, three = summary.numbers["groups"]
    for first, second, mean in zip(two["rounds"], three["rounds"], summary.numbers["kinds"][-1]["rounds"], strict=True):
        for way in ("forcing", "closed", "vote", "closed_vote"):
            shares = [each[way]["accuracy"] for each in (first, second, mean)]
            assert shares[2]["value"] == pytest.approx((shares[0]["value"] + shares[1]["value"]) / 2)
            assert mean[way]["tokens"] == pytest.approx((first[way]["tokens"] + second[way]["tokens"]) / 2)
        for gain in ("gain", "closed_gain"):
            each = [numbers[gain] for numbers in (first, second, mean)]
            assert each[2]["value"] == pytest.approx((each[0]["value"] + each[1]["value"]) / 2)
            assert each[2]["se"] == pytest.approx(math.hypot(each[0]["se"], each[1]["se"]) / 2)
        assert sum(mean["unanswered"].values()) == pytest.approx(
            (sum(first["unanswered"].values()) + sum(second["unanswered"].values())) / 2
        )
    for name in ("two", "three", "mean all"):
        assert sum(line.startswith(f"{name} ") for line in summary.lines) == 3
    votes = list(read_votes(summary.output))
    assert {row["response_id"] for row in votes} == {row["id"] for row in rows}
    assert str(summary).splitlines()[0].split()[:5] == ["group", "budget", "n", "tokens", "forced"]
    tokens = sum(row["tokens"] for row in rows) + sum(row["tokens"] for row in votes if row["number"])
    closings = summary.outcome.counts["tokens"] - tokens
    assert closings > 0, "the account of the run holds what answers cost that were made"


def test_any_batch_size_and_a_kill_on_the_way_give_the_same_bytes(suite: Path, tmp_path: Path) -> None:
    whole = run(forced(suite, close=8))
    asked = 0

    def dying(request: Request) -> str:
        nonlocal asked
        asked += 1
        if asked in (60, 333):
            raise KeyboardInterrupt
        return thinker(request)

    other = replace(forced(suite, close=8), output=tmp_path / "other")
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run(other, dying, concurrency=7)
    again = run(other, dying, concurrency=7)
    assert contents(other.output) == contents(whole.output)
    assert whole.outcome.tally.texts <= asked - 2 <= whole.outcome.tally.texts + 2 * 7, "only what was in hand is asked again"
    assert again.outcome.tally.reused > 0
    assert run(other).outcome.nothing_to_do


def test_a_further_budget_asks_for_the_new_round_alone(suite: Path) -> None:
    short = run(forced(suite, budgets=(30, 60), vote=False))
    more = run(forced(suite, vote=False))
    assert more.outcome.tally.texts == short.outcome.counts["responses/kept"]
    assert more.numbers["groups"][0]["rounds"][:2] == short.numbers["groups"][0]["rounds"]


def test_a_response_on_which_the_engine_failed_is_a_drop(suite: Path) -> None:
    def broken(request: Request) -> str | Completion:
        return failed(request, "gone") if rng(request.seed, "fate").random() < 0.05 else thinker(request)

    summary = run(config(suite), broken)
    account = summary.funnels[1]
    assert 0 < account.dropped["engine_error"] < account.requested == 110
    assert sum(group["responses"] for group in summary.numbers["groups"]) == account.kept
    assert sum(group["failed"] for group in summary.numbers["groups"]) == account.requested - account.kept


def test_a_run_in_which_no_response_was_kept_is_an_error(suite: Path) -> None:
    def stuck(request: Request) -> str | Completion:
        return failed(request, "no words for it") if request.start else thinker(request)

    with pytest.raises(EngineError, match=r"run: no response was kept; the engine gave up on .* because: no words for it"):
        run(config(suite), stuck)


@pytest.mark.parametrize("close", [0, 4])
def test_a_trigger_that_the_model_cannot_write_is_refused_before_a_text_is_paid_for(tmp_path: Path, close: int) -> None:
    made = BudgetConfig(
        "mini",
        tmp_path / "run",
        "mini",
        groups=("countdown-3",),
        forcing=Forcing(budgets=(16, 40), trigger="wait", close=close),
        generation=Answering("transformers", {"threads": 1, "device": "cpu"}),
    )
    with pytest.raises(ConfigError, match="trigger: the tokenizer of the model has no tokens for 'Wait'; give words that the"):
        budget(made)
    assert not list((tmp_path / "run").glob("ledger-*"))
    assert not (tmp_path / "run" / "completions").exists()


def test_a_single_question_has_no_interval_of_a_gain_and_a_dash_says_so(suite: Path) -> None:
    lines = run(config(suite, questions=1)).lines
    assert not any("- to -" in line for line in lines)
    assert lines[1].count(" to ") == 2, "of the two shares"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Forcing(budgets=(9,)), "budgets: expected two or more numbers of tokens, each larger than the last"),
        (lambda: Forcing(budgets=(9, 9)), "budgets: expected two or more"),
        (lambda: Forcing(trigger=""), "trigger: expected sample, wait or a text, came nothing"),
        (lambda: Forcing(close=-1), "close: expected 0 or more tokens, came -1"),
        (lambda: BudgetConfig("m", Path("o"), decoding=Chance(temperature=0)), "give --no-vote"),
        (lambda: BudgetConfig("m", Path("o"), samples=0), "samples: expected 1 or more, came 0"),
    ],
)
def test_options_that_make_no_sense_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def test_triggers_have_names() -> None:
    assert [Forcing(trigger=name).words for name in ("sample", "wait", "Hmm")] == ["<sample>\n", "Wait", "Hmm"]


def test_the_embedded_model_goes_on_by_its_own_ids_and_any_batch_size_gives_the_same_bytes(tmp_path: Path) -> None:
    def asked(name: str, batch_size: int) -> BudgetConfig:
        options = {"batch_size": batch_size, "threads": 1, "device": "cpu"}
        return BudgetConfig(
            "mini",
            tmp_path / name,
            "mini",
            groups=("countdown-3",),
            questions=5,
            forcing=Forcing(budgets=(16, 40), close=6),
            generation=Answering("transformers", options),
        )

    summary = budget(asked("small", 16))
    other = budget(asked("large", 64))
    for table in ("responses", "votes", "completions"):
        tables = [pq.read_table(run.output / table) for run in (summary, other)]
        assert tables[0].equals(tables[1])
    ids = {row["key"]: row["ids"] for row in pq.read_table(summary.output / "completions").to_pylist()}
    texts = pq.read_table(summary.output / "responses").to_pylist()
    starts = [(row, after) for row, after in pairwise(texts) if row["id"] == after["id"]]
    assert len(starts) == 5
    sample = AutoTokenizer.from_pretrained(located("mini")).convert_tokens_to_ids("<sample>")
    for before, after in starts:
        kept = len(ids[after["key"]]) - after["tokens"] - after["forced"]
        assert ids[after["key"]][:kept] == ids[before["key"]][:kept]
        assert ids[after["key"]][kept] == sample
        assert len(ids[before["key"]]) - kept <= (before["stop"] == "end") + 12 * ("</think>" in before["text"])
        assert after["spent"] == len(ids[before["key"]]) + after["tokens"] + 1
