"""A question's grid of attempts: what is known of it, what is asked next, and what came of it in the end."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from skillfactory.flow import Completion, Flow, Request, Sampling
from skillfactory.layouts import Draw, Fit, Planned
from skillfactory.markup import final_answer, verdict
from skillfactory.patterns import Want
from skillfactory.prompts import Hints, ReflectionPrompt, Variant
from skillfactory.records import Attempt, Check, Drop, Question, Reflection, Stop, Verdict
from skillfactory.seeds import derive, draw_orders
from skillfactory.tasks.base import Task

_TRUTH = {Check.RIGHT: Verdict.CORRECT, Check.WRONG: Verdict.INCORRECT}
_CLASS = {Want.RIGHT: Check.RIGHT, Want.WRONG: Check.WRONG}


@dataclass(frozen=True)
class Curation:
    """How to curate: everything that a question's flow needs beside the question."""

    task: Task
    variants: tuple[Variant, ...]
    reflection: ReflectionPrompt
    hints: Hints | None = None  # for questions that stay unsolved
    samples: int = 16  # per variant
    reflections: int = 4  # per attempt
    seed: int = 0
    solving: Sampling = field(default_factory=Sampling)
    reflecting: Sampling = field(default_factory=Sampling)
    lazy: Draw | None = None  # ask only for what this draw needs; None is eager
    budget: int | None = None  # attempts per question, hints aside; None is the whole grid


@dataclass(frozen=True, slots=True)
class Curated:
    """What came of a question: all its attempts and reflections with text, and what of them can't be used, with reasons."""

    question: Question | None  # None if the task could not give it
    attempts: tuple[Attempt, ...] = ()
    reflections: tuple[Reflection, ...] = ()
    drops: tuple[Drop, ...] = ()
    keys: Mapping[str, str] = field(default_factory=dict)  # id of an attempt or reflection → key of its completion
    asked: Mapping[str, int] = field(default_factory=dict)  # stage → number of requests


def defect(attempt: Attempt) -> str | None:
    """Why an attempt can't take a place in any trace, None if it can."""
    if attempt.answer is None:
        return "truncated" if attempt.stop is Stop.LENGTH else attempt.reason
    return None if attempt.check in _TRUTH else "undecided"


def flaw(reflection: Reflection, attempt: Attempt) -> str | None:
    """Why a reflection isn't valid, None if it is: it ended, and its verdict is the truth about the attempt."""
    if reflection.stop is not Stop.END:
        return "truncated"
    if reflection.verdict is Verdict.ABSENT:
        return "no_verdict"
    return None if _TRUTH.get(attempt.check) is reflection.verdict else "wrong_verdict"


@dataclass(slots=True)
class _Card:
    """A place in a question's grid of attempts, and what is known of it."""

    variant: Variant
    sample: int
    hinted: bool = False
    known: bool = False
    attempt: Attempt | None = None  # None where the engine failed or the response gave the hint away
    usable: bool = False
    reviews: int = 0  # asked for
    valid: bool = False  # whether there is a valid reflection


class Deck:
    """A question's grid of attempts, known ones and others: the pool that plans are made from (layouts.Pool)."""

    def __init__(self, question: Question, how: Curation) -> None:
        self.question, self.how = question, how
        self.question_id = question.id
        cards = [_Card(variant, sample) for variant in how.variants for sample in range(how.samples)]
        self._cards = self._in_order(cards)[: how.budget]
        self._attempts: dict[str, Attempt] = {}
        self._reflections: dict[str, Reflection] = {}
        self._drops: list[Drop] = []
        self._keys: dict[str, str] = {}
        self._asked: Counter[str] = Counter()

    @property
    def size(self) -> int:
        """How many attempts there are, known or not."""
        return len(self._cards)

    @property
    def variants(self) -> list[str]:
        return [card.variant.name for card in self._cards]

    @property
    def samples(self) -> list[int]:
        return [card.sample for card in self._cards]

    def text(self, i: int) -> str | None:
        attempt = self._cards[i].attempt
        return attempt.text if attempt else None

    def fits(self, i: int, want: Want, reflected: bool) -> Fit:
        card = self._cards[i]
        if reflected and card.hinted:
            return Fit.NO
        if not card.known:
            return Fit.OPEN
        if not card.usable or (card.attempt and want is not Want.ANY and card.attempt.check is not _CLASS[want]):
            return Fit.NO
        if not reflected or card.valid:
            return Fit.YES
        return Fit.OPEN if card.reviews < self.how.reflections else Fit.NO

    def known(self, i: int) -> bool:
        """Whether attempt `i` has been asked for."""
        return self._cards[i].known

    def reviews(self, i: int) -> int:
        """How many reflections on attempt `i` have been asked for."""
        return self._cards[i].reviews

    @property
    def all_known(self) -> bool:
        """Whether every attempt has been asked for."""
        return all(card.known for card in self._cards)

    @property
    def solved(self) -> bool:
        """Whether there is a right attempt."""
        return any(card.usable and card.attempt and card.attempt.check is Check.RIGHT for card in self._cards)

    def reviewable(self) -> list[tuple[int, int]]:
        """Every (attempt, number of the reflection) that the paper's grid holds."""
        return [(i, k) for i, card in enumerate(self._cards) if card.usable for k in range(self.how.reflections)]

    def add_hints(self, hints: Hints) -> list[int]:
        """Adds the hint variants' grid; gives back the numbers of its attempts."""
        new = [_Card(variant, sample, hinted=True) for variant in hints.variants for sample in range(self.how.samples)]
        self._cards += new
        return [i for i, card in enumerate(self._cards) if card.hinted]

    def ask(self, attempts: Iterable[int], reviews: Iterable[tuple[int, int]]) -> Flow[None]:
        """Asks for attempts and for reflections in one batch, and notes what comes."""
        solving = [self._cards[i] for i in attempts]
        reviewing = [(self._cards[i], k) for i, k in reviews]
        requests = [self._solve(card) for card in solving] + [self._review(card, k) for card, k in reviewing]
        if not requests:
            return
        completions = yield requests
        for card, completion in zip(solving, completions[: len(solving)], strict=True):
            self._note_attempt(card, completion)
        for (card, k), completion in zip(reviewing, completions[len(solving) :], strict=True):
            self._note_review(card, k, completion)

    def result(self, planned: Planned | None) -> Curated:
        """All that was found, in the order of the grid, and the question's own drop if no trace can come of it."""
        order = [self._id(card) for card in sorted(self._cards, key=lambda card: (card.hinted, self._place(card), card.sample))]
        attempts = tuple(self._attempts[id] for id in order if id in self._attempts)
        names = (f"{id}/r{k}" for id in order for k in range(self.how.reflections))
        reflections = tuple(self._reflections[name] for name in names if name in self._reflections)
        drops = sorted(self._drops, key=lambda drop: drop.subject_id)
        reason = self._failure(planned)
        if reason:
            drops.append(Drop("curate", self.question.id, reason))
        return Curated(self.question, attempts, reflections, tuple(drops), self._keys, self._asked)

    def _failure(self, planned: Planned | None) -> str | None:
        """Why no trace can come of the question, None if one can: as the plans say, else if there is no right attempt."""
        if self.solved if planned is None else planned.plans:
            return None
        if any(card.known for card in self._cards) and not self._attempts:
            return "engine_error"
        return "unsolved" if planned is None or not self.solved else planned.drops[0].reason

    def _in_order(self, cards: Sequence[_Card]) -> list[_Card]:
        names = [card.variant.name for card in cards]
        order, _ = draw_orders(self.how.seed, self.question.id, names, [card.sample for card in cards])
        return [cards[i] for i in order]

    def _place(self, card: _Card) -> int:
        variants = self.how.hints.variants if card.hinted and self.how.hints else self.how.variants
        return variants.index(card.variant)

    def _id(self, card: _Card) -> str:
        return f"{self.question.id}/{card.variant.name}/{card.sample}"

    def _solve(self, card: _Card) -> Request:
        seed = derive(self.how.seed, self.question.id, "solve", card.variant.name, card.sample)
        return Request(card.variant.messages(self.question, self.how.task.answer_format), self.how.solving, seed)

    def _review(self, card: _Card, k: int) -> Request:
        assert card.attempt is not None
        seed = derive(self.how.seed, self.question.id, "reflect", card.variant.name, card.sample, k)
        return Request(self.how.reflection.messages(self.question, card.attempt.text), self.how.reflecting, seed)

    def _note_attempt(self, card: _Card, completion: Completion) -> None:
        """Verifies an attempt."""
        card.known = True
        id = self._id(card)
        text = clean(completion.text)
        if self._failed("solve", id, completion):
            return
        leak = self.how.hints.leak(text) if card.hinted and self.how.hints else None
        if leak:
            self._drops.append(Drop("solve", id, "leak", leak))
            return
        answer, reason = final_answer(text)
        check = Check.MISSING
        if answer is not None:
            grade = self.how.task.check(self.question, answer)
            check, reason = grade.check, grade.reason
        card.attempt = Attempt(
            id, self.question.id, card.variant.name, card.sample, text, answer, check, reason, completion.stop
        )
        self._attempts[id] = card.attempt
        why = defect(card.attempt)
        card.usable = why is None
        if why:
            self._drops.append(Drop("solve", id, why, reason if reason != why else ""))

    def _note_review(self, card: _Card, k: int, completion: Completion) -> None:
        """Reads a reflection's verdict."""
        assert card.attempt is not None
        card.reviews += 1
        id = f"{card.attempt.id}/r{k}"
        if self._failed("reflect", id, completion):
            return
        text = clean(completion.text)
        found = Reflection(id, card.attempt.id, k, text, verdict(text), completion.stop)
        self._reflections[id] = found
        why = flaw(found, card.attempt)
        card.valid = card.valid or why is None
        if why:
            self._drops.append(Drop("reflect", id, why))

    def _failed(self, stage: str, id: str, completion: Completion) -> bool:
        """Counts a request, and notes it if the engine failed on it for good; the next resume asks for it again."""
        self._asked[stage] += 1
        self._keys[id] = completion.key
        if completion.stop is Stop.ERROR:
            self._drops.append(Drop(stage, id, "engine_error", completion.error))
        return completion.stop is Stop.ERROR


def clean(text: str) -> str:
    """`text` without white space around it and without halves of surrogate pairs, which no table can hold."""
    return text.strip().encode("utf-8", "replace").decode()
