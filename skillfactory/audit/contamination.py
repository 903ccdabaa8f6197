"""Whether questions that traces were made from are among the questions of an evaluation.

Questions are compared by four keys, strictest first: the text without case, white space and punctuation; a part of the prompt
that a line break sets off (instructions may stand round a question); the text with every list of numbers or letters sorted; and
the task's canonical form, for rows that carry a task of ours and its facts.
"""

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skillfactory.audit.duplicates import fingerprint
from skillfactory.errors import InputError
from skillfactory.rows import count_rows, read_batches
from skillfactory.stats import Share, share
from skillfactory.tasks import TASKS, resolve

_COLUMNS = ("question", "prompt", "task", "facts", "id")
KEYS = ("text", "part", "order", "canonical")
_WORD = re.compile(r"\w+")
_LIST = re.compile(r"(?:\d++|\b[^\W\d_]\b)(?:[,;\s]++(?:and\s++)?+(?:\d++|[^\W\d_]\b))++")
_LEAST = 4  # words; a shorter part of a prompt is no question
_PARTS = 16  # of a prompt that are compared, from either end


def words(text: str) -> str:
    """`text` without case, white space, punctuation and compatibility forms: its words, joined by blanks."""
    return " ".join(_WORD.findall(unicodedata.normalize("NFKC", text).casefold()))


def unordered(text: str) -> str:
    """`words(text)` with the members of every list of numbers or single letters sorted."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    return words(_LIST.sub(lambda found: " ".join(sorted(w for w in _WORD.findall(found[0]) if w != "and")), plain))


def parts(text: str) -> Iterator[str]:
    """The beginnings and ends of a prompt that a line break cuts off, as `words`, short ones left out."""
    breaks = [found.start() for found in re.finditer(r"\n\s*", text.strip())]
    for at in {*breaks[:_PARTS], *breaks[-_PARTS:]}:
        for part in (text.strip()[:at], text.strip()[at:]):
            found = words(part)
            if found.count(" ") >= _LEAST - 1:
                yield found


@dataclass(slots=True)
class Evaluation:
    """The questions of an evaluation, as 8-byte hashes of their keys."""

    rows: int = 0
    skipped: dict[str, int] = field(default_factory=dict)  # rows without a usable question, by reason
    texts: set[int] = field(default_factory=set)
    orders: set[int] = field(default_factory=set)
    canonical: set[int] = field(default_factory=set)

    def add(self, row: Mapping[str, Any]) -> None:
        """Takes a row: its `question` or `prompt` (a text, or messages), and its `task` and `facts` if it has them."""
        self.rows += 1
        texts = [text for text in map(_text, (row.get("question"), row.get("prompt"))) if text and words(text)]
        form, reason = canonical_form(row)
        if form:
            self.canonical.add(fingerprint(form))
        for text in texts:
            self.texts.add(fingerprint(words(text)))
            self.orders.add(fingerprint(unordered(text)))
        for why in (reason, "" if texts or form else "no_question"):
            if why:
                self.skipped[why] = self.skipped.get(why, 0) + 1

    def match(self, prompt: str, canonical: str = "") -> str:
        """The first of `KEYS` by which a question is one of these, "" if by none."""
        if fingerprint(words(prompt)) in self.texts:
            return "text"
        if any(fingerprint(part) in self.texts for part in parts(prompt)):
            return "part"
        if fingerprint(unordered(prompt)) in self.orders:
            return "order"
        return "canonical" if canonical and fingerprint(canonical) in self.canonical else ""


def canonical_form(row: Mapping[str, Any]) -> tuple[str, str]:
    """The canonical form of a row with `task` and `facts`, and a reason if it has them and no form can be made.

    Only tasks of ours are looked up: a name such as `module:object` in a data file is never imported.
    """
    name, facts = row.get("task"), row.get("facts")
    if not isinstance(name, str) or not facts:
        return "", ""
    if name not in TASKS:
        return "", "foreign_task"
    try:
        task = resolve(name)
        known = json.loads(facts) if isinstance(facts, str) else facts
        if not isinstance(known, Mapping):
            return "", "unusable_facts"
        return task.canonical(task.question({key: value for key, value in known.items() if value is not None})), ""
    except (InputError, ValueError):
        return "", "unusable_facts"


def read_evaluation(paths: Iterable[Path]) -> Evaluation:
    """The evaluation questions in files and folders; InputError if there are none at all."""
    evaluation = Evaluation()
    names = [str(path) for path in paths]
    for name in names:
        for row in question_rows(Path(name)):
            evaluation.add({} if isinstance(row, str) else row)
    if not (evaluation.texts or evaluation.canonical):
        raise InputError(f"{', '.join(names)}: no row holds a question; expected a column `question` or `prompt`")
    return evaluation


@dataclass(frozen=True, slots=True)
class Contamination:
    """Questions of the traces that are among the evaluation's."""

    evaluation_rows: int
    skipped: Mapping[str, int]  # evaluation rows, or their facts, that couldn't be used
    questions: Share
    traces: int
    by_key: Mapping[str, int]  # how they were found → questions
    examples: list[str]  # ids of the first


class Search:
    """Looks for the questions of traces, as they come, in an evaluation."""

    def __init__(self, against: Iterable[Path], sources: Iterable[Path], examples: int) -> None:
        self._evaluation = read_evaluation(against)
        self._forms = dict(form for path in sources for form in _forms(path))
        self._examples = examples
        self._found: dict[str, str] = {}  # question id → key
        self._seen: set[int] = set()
        self._traces = 0

    def add(self, question_id: str, prompt: str) -> None:
        """Takes the question of a trace."""
        number = fingerprint(question_id)
        if number not in self._seen:
            self._seen.add(number)
            key = self._evaluation.match(prompt, self._forms.get(question_id, ""))
            if key:
                self._found[question_id] = key
        self._traces += question_id in self._found

    def result(self) -> Contamination:
        """What was found."""
        keys = list(self._found.values())
        return Contamination(
            self._evaluation.rows,
            self._evaluation.skipped,
            share(len(self._found), len(self._seen)),
            self._traces,
            {key: keys.count(key) for key in KEYS},
            list(self._found)[: self._examples],
        )


def question_rows(path: Path) -> Iterator[Mapping[str, Any] | str]:
    """The rows of a JSONL or Parquet file, or of all in a folder (of a run: its questions); a text says why a row is none."""
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    if path.is_dir():
        folder = path / "questions" if (path / "questions").is_dir() else path
        files = sorted(file for file in folder.rglob("*") if file.suffix in (".jsonl", ".parquet"))
        if not files:
            raise InputError(f"{path}: no questions here; expected .jsonl or .parquet files")
    else:
        files = [path]
    for file in files:
        count_rows(file)  # refuses what can't be read
        for batch in read_batches(file, _COLUMNS):
            yield from batch.rows


def _text(value: Any) -> str | None:
    """The text of a question: a string, or the last user turn of messages."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        turns = [
            turn["content"] for turn in value if isinstance(turn, dict) and turn.get("role") == "user" and "content" in turn
        ]
        return turns[-1] if turns and isinstance(turns[-1], str) else None
    return None


def _forms(path: Path) -> Iterator[tuple[str, str]]:
    """The ids of the questions in `path` with their canonical forms."""
    for row in question_rows(path):
        if not isinstance(row, str) and isinstance(row.get("id"), str):
            yield row["id"], canonical_form(row)[0]
