"""Curation: one flow per question, attempts → verify → reflections → pool. `docs/curation.md` is its manual.

Eager mode asks for the whole grid (every variant, every sample, every reflection: the paper's way). Lazy mode plans the traces,
asks for what the plans take on trust, and plans again; it ends with the very traces that a build from the whole grid draws.
"""

import importlib.util
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from skillfactory.config import dump
from skillfactory.deck import Curated, Curation, Deck
from skillfactory.errors import ConfigError
from skillfactory.flow import Flow, Sampling
from skillfactory.layouts import Draw, Planned, plan
from skillfactory.machines import Machines
from skillfactory.prompts import Variant, load_hints, load_reflection, load_variants
from skillfactory.records import Drop, Question
from skillfactory.seeds import digest
from skillfactory.skills.base import Skill, resolved
from skillfactory.tasks import resolve


def solve_and_reflect(question: Question, how: Curation) -> Flow[Curated]:
    """The flow of one question."""
    deck = Deck(question, how)
    if how.lazy is None:
        yield from deck.ask(range(deck.size), ())
        yield from deck.ask((), deck.reviewable())
        if how.hints and not deck.solved:
            yield from deck.ask(deck.add_hints(how.hints), ())
        return deck.result(None)
    planned = yield from _fill(deck, how.lazy, how.seed)
    if how.hints and not deck.solved and deck.all_known:
        deck.add_hints(how.hints)
        planned = yield from _fill(deck, how.lazy, how.seed)
    return deck.result(planned)


def unusable(question: Drop) -> Flow[Curated]:
    """The flow of a question that the task could not give: it asks for nothing."""
    yield from ()
    return Curated(None, drops=(question,))


def _fill(deck: Deck, draw: Draw, seed: int) -> Flow[Planned]:
    """Asks for what the plans take on trust until they take nothing on trust.

    Planning looks at the attempts in draw order and takes each unknown one that it comes to, so what it draws in the end
    depends on no attempt that is still unknown.
    """
    while True:
        planned = plan(deck, draw, seed)
        if not planned.open:
            return planned
        unknown = [i for i in planned.open if not deck.known(i)]
        yield from deck.ask(unknown, [(i, deck.reviews(i)) for i in planned.open if deck.known(i)])


def account(curated: Curated) -> dict[str, int]:
    """What a question adds to the account of its run: unit/requested, unit/kept and unit/dropped/reason."""
    counts: Counter[str] = Counter({"questions/requested": 1})
    counts["attempts/requested"] = curated.asked.get("solve", 0)
    counts["reflections/requested"] = curated.asked.get("reflect", 0)
    units = {"solve": "attempts", "reflect": "reflections"}
    for drop in curated.drops:
        counts[f"{units.get(drop.stage, 'questions')}/dropped/{drop.reason}"] += 1
    for unit in ("questions", "attempts", "reflections"):
        lost = sum(count for name, count in counts.items() if name.startswith(f"{unit}/dropped/"))
        counts[f"{unit}/kept"] = counts[f"{unit}/requested"] - lost
    return dict(counts)


@dataclass(frozen=True)
class Decoding:
    """How texts are sampled; the defaults are the paper's (section 3.1)."""

    temperature: float = field(default=0.7, metadata={"help": "sampling temperature; 0 is greedy"})
    top_p: float = field(default=0.8, metadata={"help": "nucleus"})
    top_k: int = field(default=20, metadata={"help": "most likely tokens kept; 0 is off"})
    repetition_penalty: float = field(default=1.1, metadata={"help": "1 is off"})
    max_tokens: int = field(default=1024, metadata={"help": "new tokens of an attempt"})
    reflect_max_tokens: int | None = field(
        default=None, metadata={"help": "new tokens of a reflection", "shown": "as of an attempt"}
    )

    def __post_init__(self) -> None:
        limits = {
            "temperature": (self.temperature >= 0, "0 or more"),
            "top_p": (0 < self.top_p <= 1, "more than 0 and at most 1"),
            "top_k": (self.top_k >= 0, "0 (off) or more"),
            "repetition_penalty": (self.repetition_penalty > 0, "more than 0"),
            "max_tokens": (self.max_tokens >= 1, "1 or more"),
            "reflect_max_tokens": (self.reflect_max_tokens is None or self.reflect_max_tokens >= 1, "1 or more"),
        }
        for name, (holds, expected) in limits.items():
            if not holds:
                raise ConfigError(f"{name}: expected {expected}, came {getattr(self, name)}")

    def sampling(self, max_tokens: int | None = None) -> Sampling:
        """The decoding parameters, with another token limit if one is given."""
        return Sampling(self.temperature, self.top_p, self.top_k, self.repetition_penalty, max_tokens or self.max_tokens)


@dataclass(frozen=True)
class Prompting:
    """Which prompts ask."""

    variants: tuple[str, ...] = field(
        default=(), metadata={"help": "prompt variants to use, by name", "shown": "all of the file"}
    )
    variants_file: Path | None = field(
        default=None, metadata={"help": "your own prompt variants (YAML), or brief", "shown": "the shipped ones"}
    )
    skills: tuple[str, ...] = field(
        default=(),
        metadata={
            "help": "ask with the prompt variants of these skills too (names, or module:object)",
            "shown": "lazy: those of its layouts",
        },
    )
    reflection_file: Path | None = field(
        default=None, metadata={"help": "your own reflection prompt (YAML), or brief", "shown": "the shipped one"}
    )
    hints: bool = field(
        default=False, metadata={"help": "show the answer for questions that stay unsolved; drop responses that tell"}
    )
    hints_file: Path | None = field(
        default=None, metadata={"help": "your own hint variants and leak words (YAML)", "shown": "the shipped ones"}
    )


@dataclass(frozen=True)
class Wanted:
    """Which traces lazy mode serves; give the same layouts and seed to `build`."""

    layout: tuple[str, ...] = field(
        default=("*C_full",), metadata={"help": "lazy: layouts to fill, as in build (docs/layouts.md)", "split": False}
    )
    max_attempts: int = field(default=5, metadata={"help": "lazy: the most attempts in a trace"})
    repeats: int = field(default=1, metadata={"help": "lazy: how often each layout is built per question"})
    unique_variants: bool = field(default=False, metadata={"help": "lazy: no prompt variant twice within a trace"})


@dataclass(frozen=True)
class Generation:
    """Which model answers."""

    engine: str = field(default="transformers", metadata={"help": "scripted, transformers, vllm or openai"})
    model: str = field(
        default="", metadata={"help": "the model: a path, a Hub id, or what the server calls it", "shown": "none"}
    )
    engine_option: Mapping[str, Any] = field(default_factory=dict, metadata={"help": "an option of the engine; repeatable"})


@dataclass(frozen=True)
class CurateConfig:
    """Options of `skillfactory curate`."""

    output: Path = field(
        metadata={"help": "the run directory; the same command goes on with it after a stop", "metavar": "RUN", "remote": True}
    )
    task: str = field(metadata={"help": "a task's name, or module:object", "metavar": "NAME"})
    option: Mapping[str, Any] = field(default_factory=dict, metadata={"help": "an option of the task; repeatable"})
    level: str = field(default="", metadata={"help": "level of the questions", "shown": "the task's first"})
    questions: int | None = field(default=None, metadata={"help": "how many questions", "shown": "all that the task has"})
    split: str = field(default="sft", metadata={"help": "sft, rl or eval; they share no question"})
    mode: Literal["eager", "lazy"] = field(
        default="eager", metadata={"help": "eager asks for the whole grid, lazy for what the layouts need"}
    )
    samples: int = field(default=16, metadata={"help": "attempts per prompt variant"})
    reflections: int = field(default=4, metadata={"help": "reflections per attempt; lazy: at most"})
    budget: int | None = field(default=None, metadata={"help": "attempts per question at most", "shown": "the whole grid"})
    seed: int = field(default=0, metadata={"help": "seed of questions, samples and draws"})
    decoding: Decoding = field(default_factory=Decoding)
    prompts: Prompting = field(default_factory=Prompting)
    wanted: Wanted = field(default_factory=Wanted)
    generation: Generation = field(default_factory=Generation)
    machines: Machines = field(default_factory=Machines)

    def __post_init__(self) -> None:
        least = {"questions": 0, "samples": 1, "reflections": 0, "budget": 1}
        for name, low in least.items():
            value = getattr(self, name)
            if value is not None and value < low:
                raise ConfigError(f"{name}: expected {low} or more, came {value}")

    def curation(self) -> Curation:
        """What every question's flow needs, with names resolved and files read."""
        decoding, prompts, wanted = self.decoding, self.prompts, self.wanted
        draw = Draw.read(wanted.layout, wanted.max_attempts, wanted.repeats, wanted.unique_variants)
        lazy = draw if self.mode == "lazy" else None
        skills = resolved(prompts.skills) + (lazy.skills() if lazy else ())
        variants = with_skills(load_variants(prompts.variants_file, prompts.variants), skills, prompts.variants_file)
        hints = load_hints(prompts.hints_file) if prompts.hints else None
        twice = {variant.name for variant in variants} & {variant.name for variant in (hints.variants if hints else ())}
        if twice:
            raise ConfigError(
                f"{prompts.hints_file or 'hints.yaml'}: variants: '{min(twice)}' is a prompt variant's name too; "
                "attempts are named after their variant, so give the hint variant another name"
            )
        return Curation(
            task=resolve(self.task, self.option),
            variants=variants,
            reflection=load_reflection(prompts.reflection_file),
            hints=hints,
            samples=self.samples,
            reflections=self.reflections,
            seed=self.seed,
            solving=decoding.sampling(),
            reflecting=decoding.sampling(decoding.reflect_max_tokens),
            lazy=lazy,
            budget=self.budget,
        )

    def settings(self, how: Curation) -> dict[str, Any]:
        """All that the results depend on, the words of the prompts included, as JSON-safe values."""
        settings = dump(self)
        for name in ("output", "generation", "prompts", "machines"):
            del settings[name]
        if self.mode == "eager":
            del settings["wanted"]
        hints = asdict(how.hints) if how.hints else None
        prompts = {"variants": [asdict(v) for v in how.variants], "reflection": asdict(how.reflection), "hints": hints}
        shown = [name for layout in how.lazy.layouts for name in layout.skills] if how.lazy else []
        return {**settings, "prompts": prompts, "source": sources(self.task, *self.option.values(), *shown)}


def with_skills(variants: tuple[Variant, ...], skills: Sequence[Skill], file: Path | None) -> tuple[Variant, ...]:
    """The variants, and for each skill that none of them elicits its own: from `file` if it has them, else from the skill's."""
    for skill in skills:
        if any(skill.of(variant.name) for variant in variants):
            continue
        there = {variant.name for variant in load_variants(file)}.issuperset(skill.variants)
        variants += load_variants(file if there else skill.prompts or file, skill.variants)
    return variants


def sources(*names: Any) -> dict[str, str]:
    """For each of `names` that is a module:object outside of this package, a hash of its module's source file."""
    found = {}
    for name in names:
        module = name.partition(":")[0] if isinstance(name, str) and re.fullmatch(r"[\w.]+:[\w.]+", name) else ""
        try:
            spec = importlib.util.find_spec(module) if module.partition(".")[0] not in ("", "skillfactory") else None
        except (ImportError, ValueError):  # not a module after all: an option may hold any text
            continue
        if spec is not None and spec.has_location and spec.origin is not None:
            found[name] = digest(Path(spec.origin).read_bytes().hex())
    return found


def items(config: CurateConfig, how: Curation) -> Iterator[Question | Drop]:
    """Every question of the task, made one by one; a bad level, split or number is an error at the call."""
    return how.task.questions(config.questions, config.level or how.task.levels[0], config.seed, config.split)


def begun(how: Curation, item: Question | Drop) -> Flow[Curated]:
    """The flow of an item."""
    return unusable(item) if isinstance(item, Drop) else solve_and_reflect(item, how)
