"""Which stored texts are looked through for skills, how, and what is found in one; `docs/skill-usage.md` is the manual."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skillfactory.errors import ConfigError
from skillfactory.evaluate import Answering
from skillfactory.markup import parse
from skillfactory.records import Kind
from skillfactory.skills.implicit import Finding, Rules, implicit


@dataclass(frozen=True)
class Judging:
    """A judge model beside the rules: which texts it reads, and what it is asked."""

    judge: str = field(default="", metadata={"help": "the judge, as its server calls it", "metavar": "MODEL", "shown": "none"})
    judge_file: Path | None = field(
        default=None, metadata={"help": "your own judge's prompt (YAML)", "shown": "the shipped one"}
    )
    judge_texts: int = field(default=200, metadata={"help": "texts that it reads per run and group, the first ones"})
    judge_max_tokens: int = field(default=512, metadata={"help": "tokens of a reply, thinking included"})


@dataclass(frozen=True)
class SkillsConfig:
    """Options of `skillfactory skills`."""

    runs: tuple[str, ...] = field(
        default=(),
        metadata={
            "positional": True,
            "metavar": "RUN",
            "help": "folders of evaluate, curate, build or run, or files of texts (JSONL, Parquet); LABEL=RUN names one",
            "shown": "none",
        },
    )
    column: str = field(default="", metadata={"help": "of a file: the column of the texts", "shown": "response or text"})
    labels: str = field(
        default="", metadata={"help": "of a file: a column with lists of the skills that each text shows", "shown": "none"}
    )
    rules: Path | None = field(default=None, metadata={"help": "your own rules (YAML)", "shown": "the shipped ones"})
    skills: tuple[str, ...] = field(
        default=(), metadata={"help": "skills of your own to count beside the shipped ones, as module:object"}
    )
    output: Path | None = field(
        default=None, metadata={"help": "folder for skills.json, findings.parquet and the judge's run", "shown": "print only"}
    )
    judging: Judging = field(default_factory=Judging)
    generation: Answering = field(default_factory=lambda: Answering(engine="openai"))

    def __post_init__(self) -> None:
        if not self.runs:
            raise ConfigError("RUN is missing: name a folder of evaluate, curate, build or run, or a file of texts")
        if self.judging.judge and self.output is None:
            raise ConfigError("--judge needs --output: what a judge said is kept in a run directory there")
        for name, value in (("judge_texts", self.judging.judge_texts), ("judge_max_tokens", self.judging.judge_max_tokens)):
            if value < 1:
                raise ConfigError(f"{name}: expected 1 or more, came {value}")


@dataclass(frozen=True, slots=True)
class Text:
    """A stored text with what an evaluation knows of it."""

    id: str
    group: str
    text: str
    row: Mapping[str, Any]  # the columns of an evaluation's responses; None for what isn't known
    labels: frozenset[str] | None = None  # the skills that somebody says it shows

    @property
    def skills(self) -> tuple[str, ...]:
        """The skills whose blocks were counted in it."""
        return tuple(name for name, _ in self.row.get("blocks") or ())


def spoken(text: str, rules: Rules, skills: tuple[str, ...] = ()) -> list[Finding]:
    """The findings of rules in a text; of one with blocks in its attempts alone, as the rest is counted by its tags."""
    parts = [part for part in parse(text, skills).parts if part.kind in (Kind.ATTEMPT, Kind.REFLECTION)]
    if not parts:
        return implicit(text, rules)
    return [
        finding._replace(start=finding.start + part.start, end=finding.end + part.start)
        for part in parts
        if part.kind is Kind.ATTEMPT
        for finding in implicit(text[part.start : part.end], rules)
    ]
