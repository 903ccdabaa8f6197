"""Multiple choice from data sets: CommonsenseQA and GPQA. The answer is the letter of an option."""

import re
from abc import abstractmethod
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any, ClassVar

from skillfactory.records import Check, Grade, Question
from skillfactory.seeds import rng
from skillfactory.tasks import reasons
from skillfactory.tasks.dataset import DataTask, UnusableRowError, normalised
from skillfactory.tasks.generated import Facts
from skillfactory.tasks.numbers import unwrapped
from skillfactory.tasks.source import Row, column

MAX_CHARS = 2_000  # of an answer: a letter and its option's text

_LETTER = re.compile(r"(?:\(\s*([A-Za-z])\s*\)|([A-Za-z])(?=[).:\s]|$)[).:]?)\s*(.*)", re.DOTALL)
_GPQA = ("Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")


def letter_grade(gold: str, answer: str, choices: list[str]) -> Grade:
    """Whether `answer` is the letter `gold`.

    Read are: B, b, (B), B), B. and B: alone, or one of these followed by that option's own text and nothing else; around it
    what `unwrapped` takes off. The text of another option makes the answer wrong, as does an option's text without a letter.
    """
    if len(answer) > MAX_CHARS:
        return reasons.TOO_LONG
    text = unwrapped(answer)
    if not text:
        return reasons.EMPTY
    found = _LETTER.fullmatch(text)
    if not found:
        return Grade(Check.WRONG, "no_letter")
    letter, rest = (found[1] or found[2]).upper(), normalised(unwrapped(found[3])).removesuffix(".")
    index = ascii_uppercase.index(letter)
    if choices and index >= len(choices):
        return Grade(Check.WRONG, "not_an_option")
    if rest and (not choices or rest != normalised(choices[index]).removesuffix(".")):
        return Grade(Check.WRONG, "other_text")
    return Grade(Check.RIGHT, "letter") if letter == gold else Grade(Check.WRONG, "other_letter")


@dataclass(frozen=True)
class Choice(DataTask):
    """What the multiple-choice sets share. Facts: `question`, `choices` (texts in the order of the letters) and `answer`."""

    answer_format: ClassVar[str] = "the letter of one option"

    @abstractmethod
    def row_facts(self, row: Row, seed: int) -> dict[str, Any]:
        """See DataTask."""

    def gold(self, facts: Facts) -> str:
        """The letter, in upper case."""
        gold, choices = str(facts["answer"]).strip().upper(), list(facts.get("choices", ()))
        if len(gold) != 1 or gold not in (ascii_uppercase[: len(choices)] if choices else ascii_uppercase):
            raise UnusableRowError("bad_gold", f"not the letter of one of {len(choices) or 26} options")
        return gold

    def text(self, facts: Facts) -> str:
        """The question and its options, a letter before each."""
        options = [f"{letter}. {choice}" for letter, choice in zip(ascii_uppercase, facts.get("choices", ()), strict=False)]
        return "\n".join([super().text(facts), *([""] if options else []), *options])

    def canonical(self, question: Question) -> str:
        """The question's text and its options in any order, normalised."""
        options = sorted(normalised(choice) for choice in question.facts.get("choices", ()))
        return "\n".join([super().canonical(question), *options])

    def check(self, question: Question, answer: str) -> Grade:
        """Whether `answer` is the letter; see `letter_grade`."""
        return letter_grade(question.answer, answer, list(question.facts.get("choices", ())))


@dataclass(frozen=True)
class CommonsenseQA(Choice):
    """Everyday questions with five options. Its public test split has no answers: the validation split is "eval"."""

    source: str = "tau/commonsense_qa"
    test: str = "validation"

    name: ClassVar[str] = "commonsenseqa"

    def row_facts(self, row: Row, seed: int) -> dict[str, Any]:
        """Columns `question`, `choices` ({label: [A…], text: […]}) and `answerKey`."""
        choices, gold = column(row, "choices", self.source), str(column(row, "answerKey", self.source))
        labels, texts = [str(label) for label in choices["label"]], [str(text) for text in choices["text"]]
        if gold not in labels or len(labels) != len(texts):
            raise UnusableRowError("no_gold", f"answerKey '{gold}' of {', '.join(labels)}")
        question = str(column(row, "question", self.source)).strip()
        return {"question": question, "choices": texts, "answer": ascii_uppercase[labels.index(gold)]}


@dataclass(frozen=True)
class GPQA(Choice):
    """Graduate-level science questions with four options, shuffled by the seed (the data name the right one)."""

    source: str = "Idavidrein/gpqa"
    config: str | None = "gpqa_diamond"
    train: str = ""
    test: str = "train"  # its only split has this name

    name: ClassVar[str] = "gpqa"

    def row_facts(self, row: Row, seed: int) -> dict[str, Any]:
        """Columns `Question`, `Correct Answer`, `Incorrect Answer 1` to `3` and `Record ID`."""
        right, *wrong = (str(column(row, name, self.source) or "").strip() for name in _GPQA)
        choices = [right, *wrong]
        if not all(choices) or len({normalised(choice) for choice in choices}) < len(choices):
            raise UnusableRowError("bad_choices", "an option is empty or there twice")
        rng(seed, self.name, str(column(row, "Record ID", self.source))).shuffle(choices)
        question = str(column(row, "Question", self.source)).strip()
        return {"question": question, "choices": choices, "answer": ascii_uppercase[choices.index(right)]}
