"""Any data set of the reasoning-gym library. Both its generators and its scorers run in worker processes, never in ours.

Some of its scorers evaluate the answer as Python; a worker gives them a process of their own for every single answer, without
our environment, and refuses them programs, the network and changes to files (see docs/tasks.md for what that is worth).
Its Countdown is not offered: its scorer accepts what the rules forbid; our own task of that name is exact.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from skillfactory.errors import ConfigError, InputError, SkillFactoryError, require, unknown
from skillfactory.records import Check, Drop, Grade, Question
from skillfactory.seeds import derive, digest
from skillfactory.tasks import reasons
from skillfactory.tasks.dataset import STAGE, normalised
from skillfactory.tasks.generated import SPLITS, Facts, need, split_of, whole_number
from skillfactory.tasks.sandbox import Outcome, Raised, Returned, TimedOut, shared

MAX_CHARS = 20_000  # of an answer: some are grids or long lists of moves
DRAWS = 200  # of one question, before its data set counts as exhausted
_SEEDS = 1 << 32  # what a data set takes for a seed
_GOLD = ("possible_answer", "example_answer", "example_correct_answer")  # where entries without an answer keep one


@dataclass(frozen=True)
class Gym:
    """Questions of the data set `dataset` with the settings `config`, and its own scorer's opinion of an answer.

    Each question has a seed of its own, derived from (seed, split, index, try): the library's item i uses seed + i, so that
    neighbouring seeds would share questions.
    """

    dataset: str
    config: Mapping[str, Any] = field(default_factory=dict, hash=False)
    timeout: float = 30.0  # seconds of processor time for one question or one score

    name: ClassVar[str] = "gym"
    levels: ClassVar[tuple[str, ...]] = ("all",)
    answer_format: ClassVar[str] = "in exactly the form that the question asks for"

    def __post_init__(self) -> None:
        if self.dataset == "countdown":
            raise ConfigError(
                "gym: the scorer of 'countdown' is not exact; use the task 'countdown', which has its own verifier"
            )
        for key in ("seed", "size"):
            if key in self.config:
                raise ConfigError(f"gym: '{key}' is derived for every question and can't be set in 'config'")

    def _call(self, what: str, seed: int, question: str = "", answer: str = "") -> Outcome:
        box = shared(f"{__name__}:serve", fresh=True)
        settings = json.dumps(dict(self.config), sort_keys=True)
        return box.call(self.dataset, settings, what, seed, question, answer, timeout=self.timeout)

    def questions(self, n: int | None, level: str, seed: int, split: str) -> Iterator[Question | Drop]:
        """The first `n` questions, none twice; when no new one comes up any more, a drop for each that is missing."""
        if n is None or n < 0:
            raise InputError(f"gym is generated without end: say how many questions you want (n >= 0), not {n}")
        if level not in self.levels:
            raise unknown("level of gym", level, self.levels)
        if split not in SPLITS:
            raise unknown("split", split, SPLITS)
        return self._drawn(n, seed, split)

    def _drawn(self, n: int, seed: int, split: str) -> Iterator[Question | Drop]:
        seen: set[str] = set()
        exhausted = False
        for index in range(n):
            question = None if exhausted else self._new(seed, split, index, seen)
            if question is None:
                exhausted = True
                yield Drop(STAGE, f"gym {self.dataset} {split} {index}", "no_new_question", f"{len(seen)} different ones found")
            else:
                yield question

    def _new(self, seed: int, split: str, index: int, seen: set[str]) -> Question | None:
        """Question `index`: the first draw that belongs to the split and isn't among those seen."""
        for attempt in range(DRAWS):
            drawn = derive(seed, self.name, self.dataset, split, index, attempt) % _SEEDS
            question = self.question({"seed": drawn})
            key = self.canonical(question)
            if key not in seen and split_of(key) == split:
                seen.add(key)
                return question
        return None

    def question(self, facts: Facts) -> Question:
        """The question of {"seed": s}: the data set's only item under that seed."""
        seed = whole_number(self.name, "seed", need(self.name, facts, "seed"), 0, _SEEDS - 1)
        text, gold = self._entry(seed)
        if "question" in facts and facts["question"] != text:
            raise InputError(
                f"gym: seed {seed} of {self.dataset} is another question here; was it made by another version or config?"
            )
        identifier = f"gym-{self.dataset}-{digest(json.dumps(asdict(self), default=str, sort_keys=True), str(seed), text)}"
        prompt = f"{text.strip()}\n\nWrite your final answer, {self.answer_format}, inside <answer> and </answer>."
        return Question(identifier, self.name, "all", prompt, gold, {"seed": seed, "question": text})

    def canonical(self, question: Question) -> str:
        """The data set's name and the question's text, normalised."""
        return f"{self.dataset} {normalised(question.facts['question'])}"

    def check(self, question: Question, answer: str) -> Grade:
        """RIGHT if the data set's scorer gives 1; anything less is WRONG, with the score in the reason ("score_0.01")."""
        if len(answer) > MAX_CHARS:
            return reasons.TOO_LONG
        if not answer.strip():
            return reasons.EMPTY
        facts = question.facts
        match self._call("score", facts["seed"], facts["question"], answer.strip()):
            case Returned(float() | int() as score):
                return Grade(Check.RIGHT, "score_1") if score == 1 else Grade(Check.WRONG, f"score_{score:g}")
            case TimedOut():
                return Grade(Check.UNDECIDED, "timeout")
            case Raised("LookupError", message):
                raise InputError(f"gym: {message}")
            case Raised(kind):  # a scorer that stumbles over an answer has not called it right
                return Grade(Check.WRONG, f"scorer_raised_{kind}")
            case _:
                return Grade(Check.UNDECIDED, "worker_died")

    def _entry(self, seed: int) -> tuple[str, str]:
        """The question and the gold answer under a seed."""
        match self._call("entry", seed):
            case Returned([str(text), str(gold)]):
                return text, gold
            case Raised("ConfigError", message):
                raise ConfigError(message)
            case Raised(kind, message):
                raise ConfigError(f"gym: {self.dataset} can't make a question with {dict(self.config)}: {kind}: {message}")
            case TimedOut(seconds):
                raise ConfigError(f"gym: {self.dataset} took more than {seconds:g} s for a question; raise 'timeout'")
            case outcome:
                raise SkillFactoryError(f"gym: the worker failed while it made a question of {self.dataset}: {outcome}")


def serve() -> Callable[..., Any]:
    """What a worker serves: (data set, settings, "entry" or "score", seed, question, answer) → [question, gold] or a score."""
    library = require("reasoning_gym", "gym")
    known = require("reasoning_gym.factory", "gym").DATASETS

    def serving(name: str, settings: str, what: str, seed: int, question: str, answer: str) -> Any:
        if name not in known:
            raise unknown("data set of reasoning-gym", name, [key for key in known if key != "countdown"])
        made = library.create_dataset(name, size=1, seed=seed, **json.loads(settings))
        item = made[0]
        if what == "entry":
            return [item["question"], _gold(made, item)]
        if item["question"] != question:
            raise LookupError(f"seed {seed} of {name} is another question here; was it made by another version or config?")
        return float(made.score_answer(answer, item))

    return serving


def _gold(made: Any, item: dict[str, Any]) -> str:
    """An answer that the scorer gives 1, or "" if the entry holds none."""
    found = [item["answer"], *(item["metadata"].get(key) for key in _GOLD)]
    for answer in [value if isinstance(value, str) else json.dumps(value, default=str) for value in found if value is not None]:
        if made.score_answer(answer, item) == 1:
            return answer
    return ""
