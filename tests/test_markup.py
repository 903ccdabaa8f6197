"""Markup: reading hostile text, and parse(render(trace)) gives the parts back."""

import time
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skillfactory.markup import attempt_body, block_body, final_answer, neutral, parse, reflection_body, render, verdict
from skillfactory.records import Attempt, Block, Check, Kind, Reflection, Step, Stop, Trace, Verdict

TAGS = ["think", "sample", "reflect", "answer", "verdict"]
PIECES = [f"<{t}>" for t in TAGS] + [f"</{t}>" for t in TAGS]
PIECES += [
    "<THINK>",
    "</Sample>",
    "<thi",
    "nk>",
    "</",
    "<",
    ">",
    "<|im_end|>",
    "<｜end｜>",
    "\n",
    " ",
    "a",
    "1 + 2",
    "\x00",
    "‮",
    "<b>",
]
hostile = st.lists(st.sampled_from(PIECES), max_size=14).map("".join)


@pytest.mark.parametrize(
    ("text", "answer", "reason"),
    [
        ("so <answer> 1 + 2 </answer>", "1 + 2", "answered"),
        ("<answer>1</answer> no: <answer>2</answer>", "2", "answered"),
        ("<answer>1</answer> no: <answer>2", "1", "answered"),
        ("<answer><answer>5</answer></answer>", "5", "answered"),
        ("<answer>5</answer> and </answer>", "5", "answered"),
        ("<answer>\n5\n+ 6\n</answer>", "5\n+ 6", "answered"),
        ("<think>a <answer>1</answer></think> <answer>2</answer>", "2", "answered"),
        ("a</think> <answer>2</answer>", "2", "answered"),
        ("<think>a <answer>1</answer></think> so 1", None, "no_answer"),
        ("<think>a <answer>1</answer>", None, "unclosed_think"),
        ("nothing", None, "no_answer"),
        ("<answer>5", None, "unclosed_answer"),
        ("</answer>5<answer>", None, "unclosed_answer"),
        ("<answer> \n</answer>", None, "empty_answer"),
        ("<answer><sample></answer>", None, "empty_answer"),
        ("", None, "no_answer"),
    ],
)
def test_the_final_answer_is_the_last_pair_after_the_thinking(text: str, answer: str | None, reason: str) -> None:
    assert final_answer(text) == (answer, reason)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<verdict>Correct</verdict>", Verdict.CORRECT),
        ("<verdict> incorrect\n</verdict>", Verdict.INCORRECT),
        ("<verdict>Correct</verdict> Wait. <verdict>Incorrect</verdict>", Verdict.INCORRECT),
        ("<verdict><verdict>Correct</verdict></verdict>", Verdict.CORRECT),
        ("<verdict>Partially correct</verdict>", Verdict.ABSENT),
        ("<VERDICT>Correct</VERDICT>", Verdict.ABSENT),
        ("Correct", Verdict.ABSENT),
        ("<verdict>" + " " * 50 + "Correct</verdict>", Verdict.ABSENT),
        ("<verdict>Correct", Verdict.ABSENT),
    ],
)
def test_the_last_verdict_counts(text: str, expected: Verdict) -> None:
    assert verdict(text) is expected


def step(attempt: str, reflection: str | None, glue: str, right: bool) -> Step:
    found = Attempt("a", "q", "v", 0, attempt, final_answer(attempt)[0], Check.RIGHT if right else Check.WRONG, "", Stop.END)
    return Step(found, Reflection("r", "a", 0, reflection, Verdict.CORRECT, Stop.END) if reflection else None, glue)


attempts = st.builds("{}<answer>{}x</answer>{}".format, hostile, hostile, hostile)
reflections = st.one_of(st.none(), st.builds("{}<verdict>Correct</verdict>{}".format, hostile, hostile))
steps = st.builds(step, attempts, reflections, st.sampled_from(["Once more.", "No."]), st.booleans())


@settings(max_examples=400, deadline=None)
@given(st.lists(steps, min_size=1, max_size=4), hostile.map(lambda text: text + "x"))
def test_parsing_a_rendered_trace_gives_its_parts_back(some: list[Step], answer: str) -> None:
    some[-1] = Step(some[-1].attempt, some[-1].reflection, "")
    trace = Trace("t", "q", "question", "paper", tuple(some), "So it is.", neutral(answer).strip(), 0)
    text, segments = render(trace)
    parsed = parse(text)
    assert parsed.problems == ()
    assert [(p.kind, p.start, p.end) for p in parsed.parts] == [(s.kind, s.start, s.end) for s in segments]
    assert text.count("</think>") == text.count("<think>") == 1
    assert text.index("</think>") < text.rindex("<answer>")
    assert final_answer(text) == (trace.answer, "answered")
    assert text.count("<sample>") == len(some)
    assert "<|im_end|>" not in text
    bodies = [text[s.start : s.end] for s in segments if s.kind is Kind.ATTEMPT]
    assert bodies == [attempt_body(part.attempt.text) for part in some]


SKILL_PIECES = [*PIECES, "<subgoals>", "</subgoals>", "<SubGoals>", "<estimate>", "</estimate>", "<sub", "goals>"]
skilful = st.lists(st.sampled_from(SKILL_PIECES), max_size=14).map("".join)
shown_blocks = st.lists(
    st.builds(Block, st.sampled_from(["subgoals", "estimate"]), skilful.map(lambda text: text + "y")), max_size=2
)
skilful_steps = st.builds(
    lambda text, said, glue, right, blocks: replace(step(text, said, glue, right), blocks=tuple(blocks)),
    st.builds("{}<answer>{}x</answer>{}".format, skilful, skilful, skilful),
    st.one_of(st.none(), st.builds("{}<verdict>Correct</verdict>{}".format, skilful, skilful)),
    st.sampled_from(["Once more.", "No.", ""]),
    st.booleans(),
    shown_blocks,
)


@settings(max_examples=200, deadline=None)
@given(st.lists(skilful_steps, min_size=1, max_size=4), skilful.map(lambda text: text + "x"))
def test_blocks_of_skills_come_back_with_the_other_parts_whatever_the_texts_hold(some: list[Step], answer: str) -> None:
    some[-1] = replace(some[-1], glue="")
    trace = Trace("t", "q", "question", "paper", tuple(some), "So it is.", answer, 0)
    text, segments = render(trace)
    parsed = parse(text, ("estimate",))
    assert parsed.problems == ()
    assert [(p.kind, p.start, p.end, p.skill) for p in parsed.parts] == [(s.kind, s.start, s.end, s.skill) for s in segments]
    blocks = [block for each in some for block in each.blocks]
    used = {block.skill for block in blocks} | {"subgoals"}
    found = [(s.skill, text[s.start : s.end]) for s in segments if s.kind is Kind.SKILL]
    assert found == [(block.skill, block_body(block, tuple(used))) for block in blocks]
    if blocks:  # no text can open or close a block
        assert sum(text.lower().count(f"<{name}>") for name in used) == len(blocks)
        assert sum(text.lower().count(f"</{name}>") for name in used) == len(blocks)


def test_a_skills_block_belongs_to_the_attempt_after_it() -> None:
    made = replace(step("Execute: <answer>7</answer>", None, "", True), blocks=(Block("subgoals", "Plan: <b>\n</subgoals>"),))
    text, segments = render(Trace("t", "q", "question", "paper", (made,), "So it is.", "7", 0))
    assert text.startswith(
        "<think>\n<subgoals>\nPlan: <b>\n</subgoals>\n<sample>\nExecute: <answer>7</answer>\n</sample>\n</think>"
    )
    assert segments[0][:1] + segments[0][3:] == (Kind.SKILL, "a", True, "subgoals")
    assert segments[1][:1] + segments[1][3:] == (Kind.ATTEMPT, "a", True, None)


def test_without_skills_their_tags_are_words_like_others() -> None:
    made = step("<subgoals> <answer>7</answer> </subgoals>", None, "", True)
    text, segments = render(Trace("t", "q", "question", "paper", (made,), "So it is.", "7", 0))
    assert "<sample>\n<subgoals> <answer>7</answer> </subgoals>\n</sample>" in text
    assert [(p.kind, p.start, p.end) for p in parse(text).parts] == [(s.kind, s.start, s.end) for s in segments]
    assert parse(text).well_formed


@pytest.mark.parametrize(
    ("inside", "kinds", "problems"),
    [
        ("<subgoals>a</subgoals>b", ["skill", "glue"], ()),
        ("<subgoals>a", ["skill"], ("unclosed_subgoals",)),
        ("<subgoals>a<sample>b</sample>", ["skill", "attempt"], ("unclosed_subgoals",)),
        ("<subgoals><sample>b</sample></subgoals>", ["skill", "attempt", "glue"], ("unclosed_subgoals", "stray_tag")),
        ("a</subgoals>", ["glue"], ("stray_tag",)),
        ("<other>a</other>", ["glue"], ()),
    ],
)
def test_a_broken_block_of_a_skill_hides_no_attempt(inside: str, kinds: list[str], problems: tuple[str, ...]) -> None:
    parsed = parse(f"<think>{inside}</think><answer>1</answer>")
    assert [part.kind.value for part in parsed.parts] == [*kinds, "answer"]
    assert parsed.problems == problems


@settings(max_examples=400, deadline=None)
@given(hostile, hostile, hostile)
def test_a_body_keeps_one_pair_and_no_other_tag(before: str, inside: str, after: str) -> None:
    text = f"{before}<answer>{inside}x</answer>{after}"
    body = attempt_body(text)
    assert body.count("<answer>") == body.count("</answer>") <= 1  # none if a </think> stands behind them all
    answer = final_answer(text)[0]
    assert answer is None or final_answer(body)[0] == neutral(answer).strip()
    assert not any(tag in body.lower() for tag in PIECES[:10] if "answer" not in tag)
    said = reflection_body(f"{before}<verdict>Correct</verdict>{after}")
    assert said.count("<verdict>") == said.count("</verdict>") == 1
    assert "<answer>" not in said
    assert neutral(said.replace("<verdict>", "").replace("</verdict>", "")).count("<sample>") == 0


def test_plain_bodies_stay_as_they_are() -> None:
    text = "if a < b then\n<answer>1 + 2</answer> done"
    assert attempt_body(f"  {text}\n") == text
    assert reflection_body("it holds\n<verdict>Correct</verdict>") == "it holds\n<verdict>Correct</verdict>"


def test_removing_a_tag_never_makes_one() -> None:
    assert "<think>" not in neutral("<thi<think>nk>")
    assert "<sample>" not in neutral("<<sample>sample>")


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("no tags at all", ("no_think", "unclosed_think")),
        ("hm <think></think><answer>1</answer>", ("late_think",)),
        ("<think><sample>a", ("unclosed_think", "unclosed_sample")),
        ("<think><sample>a</sample><reflect>b</think><answer>1</answer>", ("unclosed_reflect",)),
        ("<think></think>", ("no_answer",)),
        ("<think></think><answer>1</answer><answer>2</answer>", ("second_answer",)),
        ("<think></sample></think><answer>1</answer>", ("stray_tag",)),
        ("<think>a</think><think>b</think><answer>1</answer>", ("second_think",)),
        ("<think><think>a</think><answer>1</answer>", ("second_think",)),
        ("<think>a</think>b</think><answer>1</answer>", ("second_think",)),
        ("<think>a</think><answer>1</answer><think>", ("second_think",)),
    ],
)
def test_problems_of_a_response_are_named(text: str, problems: tuple[str, ...]) -> None:
    parsed = parse(text)
    assert parsed.problems == problems
    assert not parsed.well_formed


@pytest.mark.parametrize(
    "text",
    [
        "<think></think><think><sample>a <answer>4</answer></sample></think>so<answer>5</answer>",
        "<sample>a <answer>4</answer></sample><think></think>so<answer>5</answer>",
        "<think></think><sample>a <answer>4</answer></sample></think>so<answer>5</answer>",
    ],
)
def test_no_attempt_is_lost_where_a_model_thinks_twice_or_late(text: str) -> None:
    parts = [(part.kind, text[part.start : part.end]) for part in parse(text).parts]
    assert parts == [(Kind.ATTEMPT, "a <answer>4</answer>"), (Kind.CLOSING, "so"), (Kind.ANSWER, "5")]


@settings(max_examples=300, deadline=None)
@given(hostile)
def test_the_answer_that_is_parsed_is_the_final_answer(text: str) -> None:
    found = [text[part.start : part.end] for part in parse(text).parts if part.kind is Kind.ANSWER]
    answer = final_answer(text)[0]
    assert answer is None or "</think>" not in text or found == [answer]


@settings(max_examples=300, deadline=None)
@given(hostile)
def test_parse_takes_any_text_and_its_parts_lie_in_it_in_order(text: str) -> None:
    parts = parse(text).parts
    assert all(0 <= part.start <= part.end <= len(text) for part in parts)
    assert all(a.end <= b.start for a, b in pairwise(parts))


LONG = ["<think>", "<answer>", "</answer>", "<sample>", "<", "<|", "<verdict>", "</think>", "a"]


@pytest.mark.parametrize("piece", [*LONG, "<subgoals>", "</subgoals>", "<subgoals></subgoals>", "<subgoals><sample></sample>"])
def test_a_megabyte_of_anything_is_read_in_linear_time(piece: str) -> None:
    text = piece * (1_000_000 // len(piece))
    started = time.process_time()
    final_answer(text)
    verdict(text)
    parse(text)
    attempt_body(text)
    reflection_body(text)
    block_body(Block("subgoals", text))
    assert time.process_time() - started < 8  # quadratic time would be hours
