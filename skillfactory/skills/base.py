"""A skill as a plug-in: what elicits it, where an attempt shows it, and how to count it; `docs/skills.md` adds one.

A skill never writes text. It says where in an attempt its block stands, and that stretch is moved into a block of its own,
before the attempt. So a trace holds the model's own words, all of them, whatever the plug-in does.
"""

import importlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from skillfactory.errors import ConfigError, searched, unknown
from skillfactory.markup import RESERVED, final_answer, neutral
from skillfactory.records import Block
from skillfactory.skillset import SKILLS

_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")


@dataclass(frozen=True)
class Skill:
    """A skill. Its name is the tag of its blocks: `subgoals` stands between `<subgoals>` and `</subgoals>`."""

    name: str
    variants: tuple[str, ...]  # the prompt variants that elicit it: only their attempts have blocks; () is any
    find: Callable[[str], tuple[int, int] | None]  # where in an attempt's text its block stands, None if it shows none
    detect: Callable[[str], int]  # how often a text without tags shows it
    prompts: Path | None = None  # a file with those variants, if they aren't among the shipped ones

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ConfigError(f"skill '{self.name}': a name is a tag: expected up to 32 of a-z, 0-9 and _, a letter first")
        if self.name in RESERVED:
            raise ConfigError(f"skill '{self.name}': <{self.name}> is a tag of the trace format; choose another name")

    def of(self, variant: str) -> bool:
        """Whether attempts of a prompt variant can have its block."""
        return not self.variants or variant in self.variants


@lru_cache(maxsize=256)
def resolve(name: str) -> Skill:
    """The skill `name`: one of SKILLS, or "module:object"; ConfigError for what can't be imported or isn't a skill."""
    if ":" not in name and name not in SKILLS:
        raise unknown("skill", name, [*SKILLS, "module:object"])
    module_name, _, attribute = SKILLS.get(name, name).partition(":")
    try:
        module = importlib.import_module(module_name)
    except (ImportError, ValueError) as error:  # ValueError: no name before the colon
        raise ConfigError(f"the module of the skill '{name}' can't be imported ({error}); {searched()}") from error
    if not hasattr(module, attribute):
        raise unknown(f"object in {module_name}", attribute, [key for key in vars(module) if not key.startswith("_")])
    found = getattr(module, attribute)
    if not isinstance(found, Skill):
        raise ConfigError(f"'{name}' isn't a skill: expected a skillfactory.skills.base.Skill, came {type(found).__name__}")
    return found


def resolved(names: Iterable[str]) -> tuple[Skill, ...]:
    """The skills of these names, each once; ConfigError if two that differ have one name."""
    found: dict[str, Skill] = {}
    for name in names:
        skill = resolve(name)
        if found.setdefault(skill.name, skill) is not skill:
            raise ConfigError(f"skill '{name}': another skill of the name '{skill.name}' is in use; one name, one tag")
    return tuple(found.values())


def divide(text: str, variant: str, skills: Sequence[Skill]) -> tuple[tuple[Block, ...], str]:
    """The blocks that skills find in an attempt, in the order of the skills, and what is left of its text.

    Each skill looks at what the one before has left. A stretch that says nothing, or without which the final answer would be
    another, is no block, and an attempt without an answer has none. ConfigError for a stretch that isn't in the text.
    """
    blocks: list[Block] = []
    answer = final_answer(text)
    for skill in skills if answer[0] is not None else ():
        span = skill.find(text) if skill.of(variant) else None
        if span is None:
            continue
        start, end = span
        if not 0 <= start < end <= len(text):
            raise ConfigError(f"skill '{skill.name}': find gave {start} to {end} of a text of {len(text)} characters")
        before, body, after = text[:start].rstrip(), text[start:end], text[end:].lstrip()
        rest = f"{before}\n{after}" if before and after else before + after
        if neutral(body, (skill.name,)).strip() and final_answer(rest) == answer:
            blocks.append(Block(skill.name, body))
            text = rest
    return tuple(blocks), text
