"""What silver traces hold, and what errors: lengths, patterns, arithmetic, structure, duplicates, contamination.

A stream over the part files. What is kept are lengths and hashes: 24 bytes a trace, 23 an attempt, 15 a reflection, about 150 a
question. Same directory, same numbers. `docs/audit.md` says how each number is made.
"""

import json
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from heapq import heappop, heappush
from pathlib import Path
from typing import Any

from skillfactory.audit.claims import ClaimLedger, Claims
from skillfactory.audit.contamination import Contamination, Search
from skillfactory.audit.duplicates import DuplicateLedger, Duplicates
from skillfactory.audit.faults import faults
from skillfactory.errors import ConfigError
from skillfactory.layouts import Draw
from skillfactory.markup import verdict
from skillfactory.patterns import Ending
from skillfactory.places import replacing
from skillfactory.progress import Progress, Silent
from skillfactory.records import Kind, Verdict
from skillfactory.stats import Share, Spread, share, spread
from skillfactory.tracefiles import TraceFiles

COLUMNS = ("trace_id", "question_id", "layout", "answer", "attempt_ids", "tokens", "conversations", "segments")
OTHER = "(others)"
_MOST_DISTINCT = 10_000  # phrases or patterns that are told apart; the rest are counted together
_PHRASE_KINDS = (Kind.GLUE, Kind.CLOSING)


@dataclass(frozen=True, slots=True)
class AuditConfig:
    """What to audit, and against which evaluation."""

    directory: Path = field(
        metadata={"positional": True, "metavar": "DIR", "help": "traces, as `skillfactory build` wrote them", "remote": True}
    )
    against: tuple[Path, ...] = field(
        default=(),
        metadata={
            "help": "evaluation questions to look for: JSONL or Parquet with `question` or `prompt`, folders, runs; repeatable"
        },
    )
    questions: tuple[Path, ...] = field(
        default=(), metadata={"help": "the runs the traces came from; their facts let equal questions be found in any wording"}
    )
    examples: int = field(default=5, metadata={"help": "how many ids to name for each kind of fault"})
    top: int = field(default=10, metadata={"help": "how many of the most frequent phrases and patterns to list"})
    show: int = field(default=0, metadata={"help": "print this many traces in full, those with the most attempts"})

    def __post_init__(self) -> None:
        for name in ("examples", "top", "show"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name}: expected 0 or more, came {getattr(self, name)}")
        if self.questions and not self.against:
            raise ConfigError("questions: serves the search for an evaluation's questions; name these with --against")


@dataclass(frozen=True, slots=True)
class LayoutAudit:
    """The traces of one layout."""

    traces: int
    attempts: Mapping[str, int]  # number of attempts → traces
    patterns: Mapping[str, int]  # R and W in order → traces, the most frequent ones
    distinct_patterns: int
    characters: Spread | None  # of the assistant turn
    tokens: Spread | None  # of the whole chat; traces without a count left out


@dataclass(frozen=True, slots=True)
class Phrases:
    """The phrases of one kind."""

    uses: int
    distinct: int
    top: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Faults:
    """Traces whose structure is broken: how many, and by reason with the first ids."""

    broken: Share
    reasons: Mapping[str, int]
    examples: Mapping[str, list[str]]


@dataclass(frozen=True, slots=True)
class Audit:
    """All numbers of an audit."""

    directory: str
    traces: int
    questions: int
    layouts: Mapping[str, LayoutAudit]
    variants: Mapping[str, int]  # prompt variant → places of attempts in traces; "?" where the id doesn't say
    skills: Mapping[str, int]  # skill → its blocks
    phrases: Mapping[str, Phrases]
    arithmetic: Mapping[str, Claims]
    faults: Faults
    duplicates: Duplicates
    contamination: Contamination | None
    shown: tuple[str, ...] = ()  # whole traces to print

    def to_dict(self) -> dict[str, Any]:
        """The numbers as JSON-safe values."""
        return {name: value for name, value in asdict(self).items() if name != "shown"}


def audit(config: AuditConfig, progress: Progress | None = None) -> Audit:
    """The audit of a directory of traces; it is also written there as audit.json."""
    progress = progress or Silent()
    files = TraceFiles.open(config.directory, COLUMNS)
    work = _Auditor(config, _endings(files.settings()))
    progress.begin("audit", "traces", files.rows)
    try:
        for part in files.parts:
            for batch in files.batches(part, COLUMNS):
                for row in batch.to_pylist():
                    work.add(row)
                progress.advance(batch.num_rows)
    finally:
        progress.end()
    result = work.result()
    with replacing(config.directory / "audit.json") as file:
        file.write((json.dumps(result.to_dict(), indent=2, ensure_ascii=False) + "\n").encode())
    return result


def _endings(settings: Mapping[str, Any]) -> Callable[[str], bool]:
    """Whether traces of a layout promise to end in a right attempt; a layout that isn't known is held to it."""
    texts = settings.get("layout") or ["random"]
    free = {layout.name for layout in Draw.read(texts).layouts if layout.ending is Ending.LAST}
    return lambda name: name not in free


@dataclass(slots=True)
class _Tally:
    """What is counted of one layout."""

    attempts: Counter[int] = field(default_factory=Counter)
    patterns: Counter[str] = field(default_factory=Counter)
    characters: "array[int]" = field(default_factory=lambda: array("I"))
    tokens: "array[int]" = field(default_factory=lambda: array("I"))


class _Auditor:
    """Takes traces one by one and keeps counts."""

    def __init__(self, config: AuditConfig, promises: Callable[[str], bool]) -> None:
        self.config, self.promises = config, promises
        self.layouts: defaultdict[str, _Tally] = defaultdict(_Tally)
        self.variants: Counter[str] = Counter()
        self.skills: Counter[str] = Counter()
        self.phrases: dict[str, Counter[str]] = {kind: Counter() for kind in _PHRASE_KINDS}
        self.claims = ClaimLedger()
        self.duplicates = DuplicateLedger()
        self.faults: Counter[str] = Counter()
        self.faulty: defaultdict[str, list[str]] = defaultdict(list)  # reason → the first ids
        self.broken = self.traces = 0
        self.shown: list[tuple[int, str, str]] = []  # a heap of attempts, id and text: the least goes first
        self.search = Search(config.against, config.questions, config.examples) if config.against else None

    def add(self, row: Mapping[str, Any]) -> None:
        """Takes a row of the trace table."""
        self.traces += 1
        found = faults(row, self.promises(row["layout"]))
        self.broken += bool(found)
        self.faults.update(found)
        for reason in found:
            if len(self.faulty[reason]) < self.config.examples:
                self.faulty[reason].append(row["trace_id"])
        if "turns" in found:
            return
        prompt, text = (turn["content"] for turn in row["conversations"])
        self._add_lengths(row, text)
        attempts = self._add_segments(text, row["segments"] or [])
        self.duplicates.add(row["question_id"], prompt, text, attempts)
        if self.search:
            self.search.add(row["question_id"], prompt)
        heappush(self.shown, (len(attempts), row["trace_id"], f"{prompt}\n\n{text}"))
        if len(self.shown) > self.config.show:
            heappop(self.shown)

    def _add_lengths(self, row: Mapping[str, Any], text: str) -> None:
        tally = self.layouts[row["layout"]]
        marks = [("R" if s["right"] else "W") for s in row["segments"] or [] if s["kind"] == Kind.ATTEMPT]
        tally.attempts[len(marks)] += 1
        count_bounded(tally.patterns, "".join(marks))
        tally.characters.append(len(text))
        if row["tokens"] is not None:
            tally.tokens.append(row["tokens"])

    def _add_segments(self, text: str, segments: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
        """Counts what the segments hold; gives back the ids and texts of the attempts, their blocks of skills included."""
        attempts = []
        blocks = ""  # of the attempt to come
        for segment in segments:
            kind, body = segment["kind"], text[segment["start"] : segment["end"]]
            if kind == Kind.SKILL:
                count_bounded(self.skills, segment["skill"])
                blocks += f"{body}\n"
            elif kind == Kind.ATTEMPT:
                body, blocks = blocks + body, ""
                attempts.append((segment["attempt_id"] or "", body))
                self.variants[_variant(segment["attempt_id"] or "")] += 1
                self.claims.add(body, "right attempts" if segment["right"] else "wrong attempts")
            elif kind == Kind.REFLECTION:
                self.claims.add(body, _reflection_group(verdict(body), segment["right"]))
            elif kind in self.phrases:
                count_bounded(self.phrases[kind], body)
        return attempts

    def result(self) -> Audit:
        """The audit of all that came."""
        top = self.config.top
        return Audit(
            directory=str(self.config.directory),
            traces=self.traces,
            questions=self.duplicates.questions,
            layouts={name: _layout(tally, top) for name, tally in sorted(self.layouts.items())},
            variants=_top(self.variants, None),
            skills=_top(self.skills, None),
            phrases={kind: Phrases(uses.total(), len(uses), _top(uses, top)) for kind, uses in self.phrases.items()},
            arithmetic=self.claims.result(),
            faults=Faults(share(self.broken, self.traces), _top(self.faults, None), dict(sorted(self.faulty.items()))),
            duplicates=self.duplicates.result(),
            contamination=self.search.result() if self.search else None,
            shown=tuple(f"trace {name}\n\n{text}" for _, name, text in sorted(self.shown, reverse=True)),
        )


def _layout(tally: _Tally, top: int) -> LayoutAudit:
    return LayoutAudit(
        traces=tally.attempts.total(),
        attempts={str(n): tally.attempts[n] for n in sorted(tally.attempts)},
        patterns=_top(tally.patterns, top),
        distinct_patterns=len(tally.patterns),
        characters=spread(tally.characters),
        tokens=spread(tally.tokens),
    )


def _reflection_group(said: Verdict, right: bool | None) -> str:
    if said is Verdict.ABSENT:
        return "reflections, no verdict"
    return "reflections, verdict right" if (said is Verdict.CORRECT) == bool(right) else "reflections, verdict wrong"


def _variant(attempt_id: str) -> str:
    """The prompt variant in an id such as `question/variant/sample`, "?" in any other."""
    parts = attempt_id.rsplit("/", 2)
    return parts[1] if len(parts) == 3 and parts[2].isdecimal() else "?"


def count_bounded(counter: Counter[str], text: str, most: int = _MOST_DISTINCT) -> None:
    """Counts `text`; beyond `most` distinct ones, new ones are counted together as OTHER, so memory stays bounded."""
    counter[text if text in counter or len(counter) < most else OTHER] += 1


def _top(counter: Counter[str], n: int | None) -> dict[str, int]:
    """The most frequent entries, ties in order of their text."""
    return dict(sorted(counter.items(), key=lambda entry: (-entry[1], entry[0]))[:n])
