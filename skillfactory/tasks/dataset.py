"""What tasks from data sets share: which rows belong to which split, no question twice, unusable rows as counted drops."""

import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from skillfactory.errors import ConfigError, InputError, unknown
from skillfactory.records import Drop, Grade, Question
from skillfactory.seeds import derive, digest
from skillfactory.tasks.generated import SPLITS, Facts, need, shown, split_of
from skillfactory.tasks.source import Row, Source

STAGE = "questions"


class UnusableRowError(Exception):
    """A row that can't become a question: the reason code and what was found."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail[:200]


def normalised(text: str) -> str:
    """`text` as it is compared: Unicode compatibility forms folded, lower case, every run of white space one space."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


@dataclass(frozen=True)
class DataTask(ABC):
    """A task whose questions are rows. The fields say where they are; subclasses fill them in and read the rows."""

    source: str  # a local path or an id on the Hub
    config: str | None = None
    revision: str | None = None
    train: str = "train"  # the data set's split for training, "" if it has none
    test: str = "test"  # the same for evaluation

    name: ClassVar[str]

    @property
    def levels(self) -> tuple[str, ...]:
        """The levels of the rows."""
        return ("all",)

    @property
    @abstractmethod
    def answer_format(self) -> str:
        """What stands between the answer tags."""

    @abstractmethod
    def row_facts(self, row: Row, seed: int) -> dict[str, Any]:
        """The facts that a row holds: `question`, `answer` and what else the task needs (`level`, if there are several).

        UnusableRowError for a row that can't be used, InputError for a missing column.
        """

    @abstractmethod
    def gold(self, facts: Facts) -> str:
        """The gold answer in the facts, in its usual form. UnusableRowError if it can't be one."""

    @abstractmethod
    def check(self, question: Question, answer: str) -> Grade:
        """See Task."""

    def text(self, facts: Facts) -> str:
        """The question as it is shown, without what is said about the answer's format."""
        return str(facts.get("question", ""))

    def questions(self, n: int | None, level: str, seed: int, split: str) -> Iterator[Question | Drop]:
        """The first `n` questions; see Task and `read_questions`."""
        return read_questions(self, n, level, seed, split)

    def question(self, facts: Facts) -> Question:
        """The question of {"answer": gold, "question": its text (optional)}; see Task."""
        need(self.name, facts, "answer")
        try:
            return self.build(facts)
        except UnusableRowError as error:
            raise InputError(f"{self.name}: {error.reason} in {shown(facts['answer'])}: {error.detail}") from error

    def build(self, facts: Facts) -> Question:
        """The question that complete facts describe. UnusableRowError for a gold answer that can't be one."""
        gold = self.gold(facts)
        text = self.text(facts)
        prompt = f"{text}\n\nWrite your final answer, {self.answer_format}, inside <answer> and </answer>.".lstrip()
        level = str(facts.get("level", "all"))
        return Question(f"{self.name}-{digest(text, gold)}", self.name, level, prompt, gold, dict(facts))

    def canonical(self, question: Question) -> str:
        """The question's text, normalised."""
        return normalised(question.facts.get("question", ""))


def read_questions(task: DataTask, n: int | None, level: str, seed: int, split: str) -> Iterator[Question | Drop]:
    """The first `n` questions of a split in the order of the data, none twice, with the unusable rows on the way as drops.

    A data set with a training and a test split keeps them: "eval" is the test split, and the training split is dealt to
    "sft" and "rl" by the hash of the canonical question. With a training split only, or a single file, all three are dealt;
    with a test split only there is nothing but "eval". What "eval" holds is dropped from the others.
    """
    if level not in ("all", *task.levels):
        raise unknown(f"level of {task.name}", level, task.levels)
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    if split != "eval" and not task.train:
        raise ConfigError(
            f"{task.name} is a benchmark: it has the split 'eval' only, as training on it ('{split}') would void its results"
        )
    return _questions(task, n, level, seed, split)


def _questions(task: DataTask, n: int | None, level: str, seed: int, split: str) -> Iterator[Question | Drop]:
    source = Source(task.source, task.config, task.revision)
    own_test = bool(task.train and task.test) and not source.is_file
    seen: dict[int, str | None] = {}  # the answers of the questions so far; None for those of eval
    if own_test and split != "eval":
        held_out = _usable(task, source, task.test, seed)
        seen = {_key(task, item): None for _, item in held_out if isinstance(item, Question)}
    kept = 0
    for number, item in _usable(task, source, task.test if split == "eval" and task.test else task.train, seed):
        if kept == n:
            return
        if isinstance(item, Drop):
            yield item
            continue
        if level not in ("all", item.level) or not _belongs(task, item, split, own_test):
            continue
        key = _key(task, item)
        if key in seen:
            yield Drop(STAGE, f"{task.name} row {number}", _repeated(seen[key], item.answer), item.id)
            continue
        seen[key] = item.answer
        kept += 1
        yield item


def _repeated(earlier: str | None, answer: str) -> str:
    if earlier is None:
        return "in_eval"
    return "duplicate" if earlier == answer else "duplicate_other_answer"


def _usable(task: DataTask, source: Source, name: str, seed: int) -> Iterator[tuple[int, Question | Drop]]:
    """Every row of the data set's split `name` with its number: a question or a drop."""
    for number, row in enumerate(source.rows(name)):
        try:
            yield number, task.build(task.row_facts(row, seed))
        except UnusableRowError as error:
            yield number, Drop(STAGE, f"{task.name} row {number}", error.reason, error.detail)


def _belongs(task: DataTask, question: Question, split: str, own_test: bool) -> bool:
    if not task.train or (own_test and split == "eval"):
        return True
    part = split_of(task.canonical(question))
    if own_test and part == "eval":
        part = "sft"
    return part == split


def _key(task: DataTask, question: Question) -> int:
    return derive(0, task.canonical(question))
