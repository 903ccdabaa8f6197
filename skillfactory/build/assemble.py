"""Plan → Trace: the words of a trace, and its length in tokens."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from skillfactory.layouts import Plan, Pool, divided
from skillfactory.markup import in_use, neutral
from skillfactory.patterns import Ending, Layout
from skillfactory.prompts import Phrases
from skillfactory.records import Attempt, Check, Reflection, Step, Trace
from skillfactory.seeds import rng


class FullPool(Pool, Protocol):
    """A pool whose attempts are known."""

    @property
    def prompt(self) -> str:
        """The question as the user turn says it."""

    @property
    def gold(self) -> str | None:
        """A right answer, if it is known."""

    def attempt(self, i: int) -> Attempt:
        """Attempt `i`."""

    def reflection(self, i: int) -> Reflection | None:
        """The first valid reflection on it, None if there is none."""


class Words:
    """The phrases that may stand between and behind the attempts."""

    def __init__(self, phrases: Phrases) -> None:
        self.phrases = phrases
        self.after_right = phrases.affirm + phrases.neutral
        self.after_wrong = phrases.retry + phrases.neutral

    def glue(self, attempt: Attempt, reflected: bool) -> Sequence[str]:
        """What may follow an attempt: a phrase of its kind or a neutral one; neutral ones alone where nothing was reviewed."""
        if not reflected:
            return self.phrases.neutral
        return self.after_right if attempt.check is Check.RIGHT else self.after_wrong


def assemble(plan: Plan, pool: FullPool, words: Words, seed: int) -> Trace:
    """The trace of a plan; its phrases are drawn by the trace's own name (method section 2, Format)."""
    random = rng(seed, plan.trace_id, "phrases")
    layout = plan.layout
    steps = []
    for place, i in enumerate(plan.picks):
        attempt = pool.attempt(i)
        glue = ""
        if place + 1 < len(plan.picks):
            glue = random.choice(words.glue(attempt, layout.reflected))
        elif plan.back is not None:
            glue = random.choice(words.phrases.backtrack)
        steps.append(_step(attempt, pool.reflection(i) if layout.reflected else None, glue, layout))
    if plan.back is not None:
        steps.append(_step(pool.attempt(plan.back), None, "", layout))
    confirmed = layout.ending is Ending.CONFIRM
    closing = random.choice(words.phrases.confirm if confirmed else words.phrases.closing)
    answer = neutral(steps[-1].attempt.answer or "", in_use(steps)).strip()
    return Trace(plan.trace_id, pool.question_id, pool.prompt, layout.name, tuple(steps), closing, answer, seed)


def _step(attempt: Attempt, reflection: Reflection | None, glue: str, layout: Layout) -> Step:
    """A step of a trace, with the blocks of the skills that the layout shows set apart."""
    if not layout.skills:
        return Step(attempt, reflection, glue)
    blocks, rest = divided(attempt.text, attempt.variant, layout.skills)
    return Step(replace(attempt, text=rest), reflection, glue, blocks)
