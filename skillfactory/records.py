"""The records that flow through the pipeline: frozen, small, complete."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple


class Stop(StrEnum):
    """How a generated text ended."""

    END = "end"  # the model ended its turn
    LENGTH = "length"  # the token limit cut it off
    ERROR = "error"  # the engine failed; there is no text


class Check(StrEnum):
    """What the verifier found."""

    RIGHT = "right"
    WRONG = "wrong"
    MISSING = "missing"  # there is no answer to check
    UNDECIDED = "undecided"  # the verifier could not tell (time-out, not comparable)


class Verdict(StrEnum):
    """What the model claimed about an attempt."""

    CORRECT = "correct"
    INCORRECT = "incorrect"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Grade:
    """A verifier's finding with its reason code, e.g. (WRONG, "number_reused")."""

    check: Check
    reason: str


@dataclass(frozen=True, slots=True)
class Question:
    """A question with all that is needed to show and to check it; `facts` are typed per task and JSON-safe."""

    id: str
    task: str
    level: str
    prompt: str  # what the user turn says
    answer: str  # one right answer (gold)
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One sampled solution of a question, verified."""

    id: str
    question_id: str
    variant: str  # the prompt variant that elicited it
    sample: int  # its number within the variant
    text: str
    answer: str | None  # the text of the last <answer> pair
    check: Check
    reason: str
    stop: Stop


@dataclass(frozen=True, slots=True)
class Reflection:
    """The model's own review of one attempt."""

    id: str
    attempt_id: str
    sample: int
    text: str
    verdict: Verdict
    stop: Stop


@dataclass(frozen=True, slots=True)
class Drop:
    """A thing that left the pipeline, where and why. Nothing leaves unrecorded."""

    stage: str
    subject_id: str
    reason: str
    detail: str = ""


class Block(NamedTuple):
    """What a skill shows in a trace, in a block of its own."""

    skill: str  # its name, which is the tag
    text: str


@dataclass(frozen=True, slots=True)
class Step:
    """One attempt of a trace, the reflection on it (if shown) and the phrase that leads to the next step."""

    attempt: Attempt  # its text without what stands in the blocks
    reflection: Reflection | None
    glue: str  # "" on the last step
    blocks: tuple[Block, ...] = ()  # stand before the attempt


@dataclass(frozen=True, slots=True)
class Trace:
    """A silver trace: steps in order, then a closing phrase and the final answer."""

    id: str
    question_id: str
    prompt: str
    layout: str
    steps: tuple[Step, ...]
    closing: str
    answer: str
    seed: int


class Kind(StrEnum):
    """What a stretch of a rendered trace is."""

    ATTEMPT = "attempt"
    REFLECTION = "reflection"
    SKILL = "skill"  # a block of a skill, such as subgoals
    GLUE = "glue"
    CLOSING = "closing"
    ANSWER = "answer"


class Segment(NamedTuple):
    """A stretch of a rendered trace, tags not included: characters `start` to `end` (code points, end excluded)."""

    kind: Kind
    start: int
    end: int
    attempt_id: str | None = None  # of attempts, reflections and skill blocks
    right: bool | None = None  # whether that attempt is right
    skill: str | None = None  # of skill blocks: which
