"""Laws of curation: what a flow asks for, what it makes of the texts, and that lazy and eager give the same traces."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import solver
from scipy.stats import chi2_contingency

from skillfactory.curate import CurateConfig, Decoding, Prompting, Wanted, account, items, solve_and_reflect
from skillfactory.deck import Curated, Curation, defect, flaw
from skillfactory.errors import ConfigError, InputError
from skillfactory.flow import Completion, Flow, Request, failed
from skillfactory.layouts import Draw, Fit, plan
from skillfactory.patterns import Want
from skillfactory.records import Attempt, Check, Question, Reflection, Stop, Verdict
from skillfactory.seeds import derive, rng

Model = Callable[[Request], str | Completion]
LAYOUTS = ["paper", "*C_full", "*C", "*CC", "*C*IC", "random", "no_reflection", "0C"]


def completion(request: Request, text: str, stop: Stop = Stop.END) -> Completion:
    return Completion(request.key, text, stop, 1, 1, request.sampling.max_tokens)


def talk(flow: Flow[Curated], model: Model) -> tuple[list[Sequence[Request]], Curated]:
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


def config(**changes: object) -> CurateConfig:
    return replace(CurateConfig(Path("unused"), "multiplication", questions=4, samples=6, reflections=3), **changes)  # type: ignore[arg-type]


def questions(config: CurateConfig) -> list[Question]:
    found = config.curation().task.questions(config.questions, "2", config.seed, config.split)
    return [item for item in found if isinstance(item, Question)]


def never_right(request: Request) -> str:
    user = request.messages[-1][1]
    if "For your eyes only" in user:
        random = rng(request.seed, "hinted")
        text = solver.attempt(user, True, random.getrandbits(32))
        return f"The hint says so. {text}" if random.random() < 0.5 else text
    return solver.review(user, 1.0, 0.0, 1) if "<verdict>" in user else solver.attempt(user, False, request.seed)


def broken(request: Request) -> str | Completion:
    """A model of every failure: errors, cut texts, texts without an answer."""
    fate = rng(request.seed, "fate").random()
    if fate < 0.2:
        return failed(request, "the server is gone")
    return completion(request, "and so on", Stop.LENGTH) if fate < 0.4 else solver.answer(request)


def test_eager_asks_for_the_whole_grid_and_then_for_every_reflection_on_what_has_an_answer() -> None:
    how = config().curation()
    batches, curated = talk(solve_and_reflect(questions(config())[0], how), solver.answer)
    answered = [attempt for attempt in curated.attempts if attempt.answer is not None]
    assert [len(batch) for batch in batches] == [4 * 6, 3 * len(answered)]
    question_id = curated.attempts[0].question_id
    assert [attempt.id for attempt in curated.attempts][5:7] == [
        f"{question_id}/original/5",
        f"{question_id}/plan_and_execute/0",
    ]
    assert curated.reflections[1].id == f"{question_id}/original/0/r1"
    assert {reflection.attempt_id for reflection in curated.reflections} == {attempt.id for attempt in answered}


def test_every_request_has_a_seed_of_its_own_name() -> None:
    question = questions(config())[0]
    batches, _ = talk(solve_and_reflect(question, config().curation()), solver.answer)
    requests = [request for batch in batches for request in batch]
    assert len({request.seed for request in requests}) == len({request.key for request in requests}) == len(requests)
    names = {derive(0, question.id, "solve", variant, sample) for variant in ("original", "rephrase") for sample in range(6)}
    assert names <= {request.seed for request in batches[0]}
    assert derive(0, question.id, "reflect", "original", 0, 2) in {request.seed for request in batches[1]}


@pytest.mark.parametrize("mode", ["eager", "lazy"])
@pytest.mark.parametrize("model", [solver.answer, never_right, broken])
@pytest.mark.parametrize("hints", [False, True])
def test_requested_is_kept_and_dropped_and_is_what_was_asked(mode: str, model: Model, hints: bool) -> None:
    options = config(mode=mode, prompts=Prompting(hints=hints))
    for question in questions(options):
        batches, curated = talk(solve_and_reflect(question, options.curation()), model)
        counts = account(curated)
        assert counts["attempts/requested"] + counts["reflections/requested"] == sum(map(len, batches))
        assert counts["questions/requested"] == 1
        for unit in ("questions", "attempts", "reflections"):
            lost = sum(count for name, count in counts.items() if name.startswith(f"{unit}/dropped"))
            assert counts[f"{unit}/requested"] == counts[f"{unit}/kept"] + lost
        usable = [attempt for attempt in curated.attempts if defect(attempt) is None]
        assert counts["attempts/kept"] == len(usable)
        assert set(curated.keys) >= {attempt.id for attempt in curated.attempts} | {r.id for r in curated.reflections}


def attempt_of(text: str, stop: Stop = Stop.END, check: Check = Check.MISSING, reason: str = "no_answer") -> Attempt:
    return Attempt("a", "q", "v", 0, text, None if check is Check.MISSING else "1", check, reason, stop)


@pytest.mark.parametrize(
    ("attempt", "reason"),
    [
        (attempt_of("no"), "no_answer"),
        (attempt_of("no", Stop.LENGTH), "truncated"),
        (attempt_of("yes", check=Check.UNDECIDED, reason="time_out"), "undecided"),
        (attempt_of("yes", Stop.LENGTH, Check.RIGHT), None),
        (attempt_of("yes", check=Check.WRONG), None),
    ],
)
def test_an_attempt_is_usable_if_its_answer_is_known_to_be_right_or_wrong(attempt: Attempt, reason: str | None) -> None:
    assert defect(attempt) == reason


@pytest.mark.parametrize(
    ("check", "verdict", "stop", "reason"),
    [
        (Check.RIGHT, Verdict.CORRECT, Stop.END, None),
        (Check.WRONG, Verdict.INCORRECT, Stop.END, None),
        (Check.RIGHT, Verdict.INCORRECT, Stop.END, "wrong_verdict"),
        (Check.WRONG, Verdict.CORRECT, Stop.END, "wrong_verdict"),
        (Check.RIGHT, Verdict.ABSENT, Stop.END, "no_verdict"),
        (Check.RIGHT, Verdict.CORRECT, Stop.LENGTH, "truncated"),
    ],
)
def test_a_reflection_is_valid_if_its_verdict_is_the_truth(
    check: Check, verdict: Verdict, stop: Stop, reason: str | None
) -> None:
    assert flaw(Reflection("r", "a", 0, "", verdict, stop), attempt_of("", check=check)) == reason


def test_a_failed_request_is_a_drop_with_the_engines_words() -> None:
    _, curated = talk(solve_and_reflect(questions(config())[0], config().curation()), lambda request: failed(request, "gone"))
    assert curated.attempts == ()
    assert {(drop.reason, drop.detail) for drop in curated.drops} == {("engine_error", "gone"), ("engine_error", "")}
    assert account(curated)["questions/dropped/engine_error"] == 1


def test_hints_are_for_unsolved_questions_and_are_never_reflected_on() -> None:
    options = config(prompts=Prompting(hints=True))
    batches, curated = talk(solve_and_reflect(questions(options)[0], options.curation()), solver.answer)
    assert len(batches) == 2
    batches, curated = talk(solve_and_reflect(questions(options)[0], options.curation()), never_right)
    assert len(batches) == 3
    assert len(batches[2]) == 4 * 6
    hinted = {attempt.id for attempt in curated.attempts if attempt.variant.startswith("hint_")}
    leaked = {drop.subject_id for drop in curated.drops if drop.reason == "leak"}
    assert hinted
    assert leaked
    assert not hinted & leaked
    assert len(hinted) + len(leaked) == 4 * 6
    assert not hinted & {reflection.attempt_id for reflection in curated.reflections}
    assert not any(drop.stage == "curate" for drop in curated.drops)


def test_lazy_asks_for_hints_only_where_a_layout_can_use_them() -> None:
    for layout, asked in (("*C_full", False), ("no_reflection", True)):
        options = config(mode="lazy", prompts=Prompting(hints=True), wanted=Wanted((layout,)))
        batches, _ = talk(solve_and_reflect(questions(options)[0], options.curation()), never_right)
        users = [request.messages[-1][1] for batch in batches for request in batch]
        assert any("For your eyes only" in user for user in users) is asked


class Whole:
    """A reference pool of all that a flow brought, written apart from the flow's own."""

    def __init__(self, curated: Curated) -> None:
        found = curated.attempts
        self.question_id = found[0].question_id
        self.attempts = found
        self.variants = [attempt.variant for attempt in found]
        self.samples = [attempt.sample for attempt in found]
        wanted = {Check.RIGHT: Verdict.CORRECT, Check.WRONG: Verdict.INCORRECT}
        checks = {attempt.id: attempt.check for attempt in found}
        self.valid: dict[str, Reflection] = {}
        for reflection in curated.reflections:
            if reflection.stop is Stop.END and wanted.get(checks[reflection.attempt_id]) is reflection.verdict:
                self.valid.setdefault(reflection.attempt_id, reflection)

    def text(self, i: int) -> str:
        return self.attempts[i].text

    def fits(self, i: int, want: Want, reflected: bool) -> Fit:
        attempt = self.attempts[i]
        wanted = {Want.RIGHT: [Check.RIGHT], Want.WRONG: [Check.WRONG], Want.ANY: [Check.RIGHT, Check.WRONG]}[want]
        return Fit.YES if attempt.check in wanted and (not reflected or attempt.id in self.valid) else Fit.NO

    def traces(self, draw: Draw, seed: int) -> list[list[tuple[str, str | None]]]:
        """The ids of the attempts and reflections of every trace."""
        return [
            [(id := self.attempts[i].id, self.valid[id].id if made.layout.reflected else None) for i in made.picks]
            for made in plan(self, draw, seed).plans
        ]


def drawn(how: Curation, draw: Draw, question: Question, model: Model = solver.answer) -> tuple[list[object], Curated]:
    _, curated = talk(solve_and_reflect(question, how), model)
    return ([*Whole(curated).traces(draw, how.seed)] if curated.attempts else []), curated


@pytest.mark.parametrize("unique", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_lazy_and_eager_give_the_same_traces_from_the_same_seed(layout: str, unique: bool) -> None:
    fewer = made = 0
    for seed in range(3):
        options = config(seed=seed, wanted=Wanted((layout,), 4, repeats=2, unique_variants=unique))
        eager, lazy = options.curation(), replace(options, mode="lazy").curation()
        assert lazy.lazy is not None
        for question in questions(options):
            expected, whole = drawn(eager, lazy.lazy, question)
            found, part = drawn(lazy, lazy.lazy, question)
            assert found == expected
            made += len(found)
            fewer += account(whole)["reflections/requested"] > account(part)["reflections/requested"]
    assert made > 0
    assert fewer > 0


@pytest.mark.parametrize("model", [never_right, broken])
def test_lazy_and_eager_give_the_same_traces_whatever_fails(model: Model) -> None:
    for layout in LAYOUTS[:-2]:
        options = config(prompts=Prompting(hints=layout == "paper"), wanted=Wanted((layout,), 3))
        lazy = replace(options, mode="lazy").curation()
        assert lazy.lazy is not None
        for question in questions(options):
            expected, _ = drawn(options.curation(), lazy.lazy, question, model)
            assert drawn(lazy, lazy.lazy, question, model)[0] == expected


def test_mixed_layouts_with_weights_are_served_lazily_too() -> None:
    options = config(questions=12, mode="lazy", wanted=Wanted(("*C@2", "*C*IC@1", "no_reflection@1"), 3, repeats=2))
    how = options.curation()
    assert how.lazy is not None
    for question in questions(options):
        assert drawn(how, how.lazy, question)[0] == drawn(replace(how, lazy=None), how.lazy, question)[0]


def test_a_budget_bounds_the_attempts_and_draws_from_the_first_of_the_draw_order() -> None:
    options = config(mode="lazy", budget=7)
    how = options.curation()
    assert how.lazy is not None
    for question in questions(options):
        found, curated = drawn(how, how.lazy, question)
        expected, whole = drawn(replace(how, lazy=None), how.lazy, question)
        assert len(whole.attempts) == 7
        assert len(curated.attempts) <= 7
        assert found == expected


def test_lazy_asks_for_no_reflection_after_a_valid_one() -> None:
    how = config(mode="lazy", reflections=4).curation()
    for question in questions(config()):
        _, curated = talk(solve_and_reflect(question, how), solver.answer)
        checks = {attempt.id: attempt for attempt in curated.attempts}
        settled = set()
        for reflection in curated.reflections:
            assert reflection.attempt_id not in settled
            if flaw(reflection, checks[reflection.attempt_id]) is None:
                settled.add(reflection.attempt_id)


def test_a_question_whose_traces_cannot_be_filled_is_dropped_with_the_plans_reason() -> None:
    options = config(mode="lazy", wanted=Wanted(("*C*IC",)))
    _, curated = talk(solve_and_reflect(questions(options)[0], options.curation()), never_right)
    assert curated.drops[-1].reason == "unsolved"
    always = lambda request: solver.attempt(request.messages[-1][1], True, request.seed)  # noqa: E731
    options = config(mode="lazy", reflections=0, wanted=Wanted(("*C_full",)))
    _, curated = talk(solve_and_reflect(questions(options)[0], options.curation()), always)
    assert curated.drops[-1].reason == "too_few_right"


def patterns(how: Curation, draw: Draw, asked: list[Question], build_seed: int | None = None) -> Counter[str]:
    """How often each sequence of right and wrong attempts is drawn, by the curation's seed or another."""
    seed = how.seed if build_seed is None else build_seed
    found: Counter[str] = Counter()
    for question in asked:
        _, curated = talk(solve_and_reflect(question, how), solver.answer)
        pool = Whole(curated)
        right = {attempt.id: attempt.check is Check.RIGHT for attempt in curated.attempts}
        found.update("".join("CI"[not right[id]] for id, _ in trace) for trace in pool.traces(draw, seed))
    return found


def probability(one: Counter[str], other: Counter[str]) -> float:
    """The chi-square test's p that two tables of counts come from one distribution; rare patterns are pooled."""
    total = one + other
    common = [name for name in total if total[name] >= 20]
    rows = [
        [table[name] for name in common] + [sum(table.values()) - sum(table[name] for name in common)] for table in (one, other)
    ]
    table = np.array(rows)
    return float(chi2_contingency(table[:, table.sum(0) > 0]).pvalue)


@pytest.fixture(scope="module")
def eager_patterns() -> Counter[str]:
    options = config(questions=250, seed=1, samples=4)
    return patterns(options.curation(), Draw.read(("*C",), 4), questions(options))


def test_lazy_and_eager_traces_of_different_seeds_follow_the_same_distribution(eager_patterns: Counter[str]) -> None:
    options = config(questions=600, seed=2, samples=4, mode="lazy", wanted=Wanted(("*C",), 4))
    how = options.curation()
    assert how.lazy is not None
    assert probability(eager_patterns, patterns(how, how.lazy, questions(options))) > 0.01


def test_the_test_of_distributions_sees_a_biased_draw(eager_patterns: Counter[str]) -> None:
    """Bias: what one seed asked for lazily, drawn from with another seed, which then finds what the first had left over."""
    options = config(questions=600, seed=2, samples=4, mode="lazy", wanted=Wanted(("*C",), 4))
    how = options.curation()
    assert how.lazy is not None
    assert probability(eager_patterns, patterns(how, how.lazy, questions(options), build_seed=3)) < 1e-6


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"samples": 0}, "samples: expected 1 or more, came 0"), ({"budget": 0}, "budget"), ({"reflections": -1}, "reflections")],
)
def test_numbers_out_of_range_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config(**changes)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("temperature", -1.0, "0 or more"),
        ("top_p", 7.0, "more than 0 and at most 1"),
        ("top_p", 0.0, "more than 0 and at most 1"),
        ("top_k", -2, r"0 \(off\) or more"),
        ("repetition_penalty", 0.0, "more than 0"),
        ("max_tokens", 0, "1 or more"),
        ("max_tokens", -5, "1 or more"),
        ("reflect_max_tokens", 0, "1 or more"),
    ],
)
def test_decoding_that_makes_no_sense_is_refused(name: str, value: float, expected: str) -> None:
    with pytest.raises(ConfigError, match=f"^{name}: expected {expected}, came {value}$"):
        Decoding(**{name: value})  # type: ignore[arg-type]


def test_a_hint_variant_must_not_bear_the_name_of_a_prompt_variant(tmp_path: Path) -> None:
    own = tmp_path / "hints.yaml"
    own.write_text(
        "variants: [{name: original, system: null, suffix: '{answer} {answer_format}'}]\nleaks: [hint]\n", encoding="utf-8"
    )
    options = config(prompts=Prompting(hints=True, hints_file=own))
    with pytest.raises(ConfigError, match=r"hints\.yaml: variants: 'original' is a prompt variant's name too; .*another name"):
        options.curation()
    replace(options, prompts=Prompting(("rephrase",), hints=True, hints_file=own)).curation()


def test_a_task_that_cannot_give_the_questions_says_so_before_any_flow_begins() -> None:
    options = config(questions=None)
    with pytest.raises(InputError, match="say how many questions you want"):
        items(options, options.curation())


def test_half_a_surrogate_pair_is_no_text() -> None:
    _, curated = talk(solve_and_reflect(questions(config())[0], config().curation()), lambda _: "\ud800 <answer>1</answer>\n")
    assert {attempt.text for attempt in curated.attempts} == {"? <answer>1</answer>"}
