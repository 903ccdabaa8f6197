"""The synthetic texts that the base model learns from. None holds two attempts at one question.

A text is a chat in pieces, each with the weight of its loss. Six kinds: single attempts, reviews of one attempt, *far records*
(other questions' attempts stand between a question and the one attempt at it), junk in tags, copies of an answer, arithmetic.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import NamedTuple

from skillfactory.mini import countdown, others
from skillfactory.mini.tokens import END, START
from skillfactory.mini.walks import apply, worth
from skillfactory.prompts import BRIEF, load_phrases, load_reflection, load_variants

PROMPT, FILLER = 0.1, 0.5  # weights of a prompt's tokens, and of the work inside a far record's filler
OTHER = 0.15  # share of the other tasks in attempts, reviews and far records
_STYLES = ("original", "plan_and_execute", "alternatively", "rephrase")


class Piece(NamedTuple):
    """A stretch of text and the weight of its loss."""

    text: str
    weight: float


@dataclass(frozen=True, slots=True)
class Text:
    """A chat, and the keys of all questions that it holds an attempt at, each once."""

    pieces: tuple[Piece, ...]
    keys: tuple[str, ...] = ()

    @property
    def whole(self) -> str:
        """All of it."""
        return "".join(piece.text for piece in self.pieces)


class _Tried(NamedTuple):
    """An attempt at a question and what a reviewer says of it (None: nothing honest can be said in the small world)."""

    opening: str
    work: str
    review: str | None
    keys: tuple[str, ...]
    own: bool = True  # made as the model is meant to make attempts: neither given away nor spoiled

    @property
    def text(self) -> str:
        return f"{self.opening} {self.work}"

    @property
    def answer(self) -> str:
        return self.work.partition("<answer>")[2].partition("</answer>")[0]


class Writer:
    """Writes texts by a random generator; `room` is the most tokens that one may have, as a typist counts words and marks."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._variants = {variant.name: variant for variant in load_variants(Path(BRIEF))}
        self._reflection = load_reflection(Path(BRIEF))
        phrases = load_phrases(Path(BRIEF))
        self._glue = phrases.neutral + phrases.affirm + phrases.retry
        self._closing = phrases.closing + phrases.confirm
        self._tasks = others.all_tasks()
        random = Random(0)  # the words that wrong answers are made of; any will do
        drawn = [others.draw(random, self._tasks) for _ in range(600)]
        self._golds = sorted({each.gold for each in drawn if each.task != "multiplication"})
        self._junk = [*self._golds, *map(str, range(100)), *"+-*/="]

    def text(self, random: Random) -> Text:
        """A text of a random kind."""
        kinds: dict[Callable[[Random], Text], float] = {
            self.attempt: 0.30,
            self.review: 0.25,
            self.far: 0.27,
            self.junk: 0.05,
            self.copy: 0.06,
            self.arithmetic: 0.07,
        }
        return random.choices(list(kinds), list(kinds.values()))[0](random)

    def attempt(self, random: Random) -> Text:
        """A question, asked in one of the four styles or plainly, and one attempt at it."""
        return self.styled(random, plain=0.35)

    def styled(self, random: Random, plain: float = 0.0, other: float = OTHER) -> Text:
        """A question, asked in one of the four styles or, with chance `plain`, plainly, and one attempt at it."""
        style, plainly = random.choice(_STYLES), random.random() < plain
        asked = self._question(random, other)
        tried = self._fresh(asked, style, random)
        turns = self._variants[style].messages(asked.question, "")
        return chat(asked.prompt if plainly else turns[-1][1], [Piece(tried.text, 1.0)], tried.keys)

    def review(self, random: Random) -> Text:
        """A question with an attempt at it, and a review."""
        tried = None
        while tried is None or tried.review is None:
            asked = self._question(random, OTHER)
            tried = self._judged(asked, random.choice((*_STYLES, "rephrase")), random)
        prompt = self._reflection.messages(asked.question, tried.text)[-1][1]
        return chat(prompt, [Piece(tried.review, 1.0)], tried.keys)

    def far(self, random: Random) -> Text:
        """A far record: a question; attempts at other questions in tags; then one attempt at the first one and its review.

        Openings of filler and tags have no loss, so nothing here teaches to open `<think>`, to go on after an attempt, or to
        attempt a question that wasn't asked; what is learned is to do all of it well at any distance. It never ends.
        """
        asked = self._question(random, OTHER)
        tried = self._fresh(asked, "rephrase", random)
        pieces, keys = self._filler(asked, set(tried.keys), random)
        pieces = [Piece("<think>\n", 0.0), *pieces, Piece("<sample>\n", 0.0), Piece(f"{tried.text}\n</sample>\n", 1.0)]
        if tried.review is None:
            return chat(asked.prompt, pieces, (*tried.keys, *keys), ends=False)
        pieces += [Piece("<reflect>\n", PROMPT), Piece(f"{tried.review}\n</reflect>\n", 1.0)]
        return chat(asked.prompt, pieces, (*tried.keys, *keys), ends=False)

    def copy(self, random: Random) -> Text:
        """Attempts at different questions in tags, and the last one's answer after the thinking: to copy any answer."""
        asked = self._question(random, OTHER)
        tried = self._fresh(asked, random.choice(("rephrase", random.choice(_STYLES))), random)
        filler, keys = self._filler(asked, set(tried.keys), random, most=4)
        remark = f"<reflect>\n{tried.review or self._words(random, 5)}\n</reflect>\n" if random.random() < 0.8 else ""
        before = f"<sample>\n{tried.text}\n</sample>\n{remark}</think>\n\n{random.choice(self._closing)}\n\n"
        answer = Piece(f"<answer>\n{tried.answer}\n</answer>", 1.0)
        pieces = [Piece("<think>\n", 0.0), *filler, Piece(before, 0.0), answer]
        return chat("Conclude.", pieces, (*tried.keys, *keys))

    def junk(self, random: Random) -> Text:
        """Meaningless words in tags, to be repeated."""
        parts = []
        for _ in range(random.randint(1, 5)):
            name = random.choice(("sample", "reflect", "sample", "reflect", "think"))
            phrase = f"<{name}>\n{self._words(random, 6)}\n</{name}>"
            parts.append(phrase if random.random() < 0.75 else random.choice(self._glue))
        said = "\n".join(parts)
        return chat(f"Repeat: {said}", [Piece(said, 1.0)])

    def arithmetic(self, random: Random) -> Text:
        """One operation."""
        a, b, op = random.randint(1, 99), random.randint(1, 99), random.choice("+-*/")
        if op == "*":
            a = random.randint(1, 49)
            b = random.randint(1, 99 // a)
        elif op == "/":
            b = random.randint(1, 20)
            a = b * random.randint(1, 99 // b)
        elif op == "+":
            a = random.randint(1, 98)
            b = random.randint(1, 99 - a)
        else:
            a, b = max(a, b), min(a, b)
        return chat(f"{a} {op} {b}", [Piece(f"{a} {op} {b} = {apply(a, op, b)}.", 1.0)])

    def _question(self, random: Random, other: float) -> countdown.Sum | others.Other:
        if random.random() < other:
            return others.draw(random, self._tasks)
        return countdown.draw(random)

    def _fresh(self, asked: countdown.Sum | others.Other, style: str, random: Random) -> _Tried:
        """An attempt as the model is meant to make them."""
        if isinstance(asked, others.Other):
            answer = others.guess(asked, random, self._golds)
            return _Tried(*others.attempt(asked, answer, style), others.review(asked, answer), (asked.key,))
        way = countdown.try_it(asked, random)
        parts = countdown.attempt(asked, way, way.expression, style)
        return _Tried(*parts, countdown.review(asked, way.expression), (asked.key,))

    def _judged(self, asked: countdown.Sum | others.Other, style: str, random: Random) -> _Tried:
        """An attempt for a reviewer: as often right as wrong, some of the wrong ones spoiled."""
        if isinstance(asked, others.Other):
            answer = others.guess(asked, random, self._golds, wrong=0.5)
            return _Tried(*others.attempt(asked, answer, style), others.review(asked, answer), (asked.key,), False)
        luck = random.random()
        way = asked.way if luck < 0.45 else countdown.try_it(asked, random)
        answer = way.expression if luck < 0.84 else countdown.spoiled(way.expression, random)
        found = worth(answer)
        keys = {asked.key, countdown.key_of(found.numbers) if found else asked.key}
        parts = countdown.attempt(asked, way, answer, style)
        return _Tried(*parts, countdown.review(asked, answer), tuple(sorted(keys)), 0.45 <= luck < 0.84)

    def _filler(
        self, asked: countdown.Sum | others.Other, taken: set[str], random: Random, most: int = 40
    ) -> tuple[list[Piece], list[str]]:
        """Attempts at questions whose keys aren't `taken`, in tags, with reviews and phrases; how many varies widely."""
        used = _count(asked.prompt) + 110  # room for the attempt and what follows
        far = (
            random.randint(0, self._room)
            if random.random() < 0.3
            else 60 * random.choice((0, 1, 1, 2, 2, 3, 3, 4, 5, 6, 8, 10))
        )
        pieces: list[Piece] = []
        keys: list[str] = []
        size = len(asked.numbers) if isinstance(asked, countdown.Sum) else None
        while far > 0 and most > 0:
            other = countdown.draw(random, size if random.random() < 0.15 else None)
            tried = self._judged(other, "rephrase" if random.random() < 0.85 else random.choice(_STYLES), random)
            review = tried.review
            if review is None or taken & set(tried.keys):
                continue
            if random.random() < 0.12:
                made = [Piece(f"<sample>\n{self._words(random, 30)}\n</sample>\n", 0.0)]
                tried = tried._replace(keys=())
            else:
                made = _block(tried, review, restated=tried.opening == other.prompt)
            made.append(Piece(f"{random.choice(self._glue)}\n", 0.0))
            size_now = sum(_count(piece.text) for piece in made)
            if used + size_now > self._room:
                break
            pieces += made
            keys += tried.keys
            taken |= set(tried.keys)
            used, far, most = used + size_now, far - size_now, most - 1
        return pieces, keys

    def _words(self, random: Random, most: int) -> str:
        return " ".join(random.choice(self._junk) for _ in range(random.randint(1, most)))


def _block(tried: _Tried, review: str, restated: bool) -> list[Piece]:
    """An attempt and its review in tags. Where it restates its question, its work can be learned from."""
    return [
        Piece(f"<sample>\n{tried.opening} ", 0.0),
        Piece(tried.work, FILLER if tried.own and restated else 0.0),
        Piece("\n</sample>\n<reflect>\n", 0.0),
        Piece(review, FILLER if restated else 0.0),
        Piece("\n</reflect>\n", 0.0),
    ]


def _count(text: str) -> int:
    """About how many tokens a text has, and never fewer: marks are set apart by the tokenizer, so they count as words."""
    return len(text.split()) + sum(map(text.count, ".,:?()<")) + text.count(">")


def chat(prompt: str, reply: list[Piece], keys: tuple[str, ...] = (), ends: bool = True) -> Text:
    """A chat of one question and one reply, as the chat template writes it."""
    opening = [Piece(START, 0.0), Piece(f"user\n{prompt}{END}\n", PROMPT), Piece(f"{START}assistant\n", 0.0)]
    closing = [Piece(f"{END}\n", 1.0)] if ends else []
    return Text((*opening, *reply, *closing), keys)


def contexts(writer: Writer, random: Random) -> Iterator[Text]:
    """Texts for one context, without end: no two of them attempt one question."""
    taken: set[str] = set()
    while True:
        text = writer.text(random)
        if not taken & set(text.keys):
            taken |= set(text.keys)
            yield text
