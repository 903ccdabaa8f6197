"""How often responses use the skills of `SKILLS`, and others by request: in blocks of their own, and in untagged text."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from skillfactory.records import Kind, Segment
from skillfactory.skills.base import Skill, resolved
from skillfactory.skillset import SKILLS

Counts = tuple[tuple[str, int], ...]  # skill, how often


class Use(NamedTuple):
    """How often one response uses each skill."""

    blocks: Counts  # blocks that hold something
    untagged: Counts  # what the skill detects outside of its blocks


def used(text: str, parts: Sequence[Segment], own: tuple[Skill, ...] = ()) -> Use:
    """The use of the skills in a response with these parts; `own` are the skills beside those of SKILLS."""
    skills = _counted(own)
    blocks = [part for part in parts if part.kind is _SKILL]
    if not blocks:
        return Use(tuple([(skill.name, 0) for skill in skills]), tuple([(skill.name, skill.detect(text)) for skill in skills]))
    shown = Counter(part.skill for part in blocks if part.start < part.end)
    return Use(
        tuple((skill.name, shown[skill.name]) for skill in skills),
        tuple((skill.name, skill.detect(_outside(text, blocks, skill.name))) for skill in skills),
    )


_SKILL = Kind.SKILL  # Python 3.11 takes its time to find a member of an enumeration


@lru_cache(maxsize=64)
def _counted(own: tuple[Skill, ...]) -> tuple[Skill, ...]:
    """The skills of SKILLS and others; one of one's own takes the place of that with its name."""
    return tuple({skill.name: skill for skill in (*resolved(SKILLS), *own)}.values())


def _outside(text: str, blocks: Sequence[Segment], name: str) -> str:
    """The text without the blocks of a skill."""
    at, pieces = 0, []
    for block in blocks:
        if block.skill == name:
            pieces.append(text[at : block.start])
            at = block.end
    return "\n".join([*pieces, text[at:]]) if pieces else text


class Usage:
    """The use of skills in many responses, added up."""

    def __init__(self) -> None:
        self._blocks: Counter[str] = Counter()
        self._with: Counter[str] = Counter()  # responses with a block
        self._untagged: Counter[str] = Counter()
        self._known: Counter[str] = Counter()  # responses that were looked at

    def add(self, blocks: Counts | None, untagged: Counts | None) -> None:
        """Takes one response; None where a skill was never looked for, as in older runs."""
        for name, count in blocks or ():
            self._known[name] += 1
            self._blocks[name] += count
            self._with[name] += count > 0
        for name, count in untagged or ():
            self._untagged[name] += count

    def numbers(self) -> dict[str, dict[str, float]]:
        """By skill: blocks per response, the share of responses with one, and uses in untagged text per response."""
        return {
            name: {
                "blocks": self._blocks[name] / count,
                "with_block": self._with[name] / count,
                "untagged": self._untagged[name] / count,
            }
            for name, count in sorted(self._known.items())
        }


def averaged(groups: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """The means over groups of the numbers of `Usage`, of the skills that all of them know; every group counts the same."""
    known = [group["skills"] for group in groups if group["skills"]]
    names = [name for name in known[0] if all(name in each for each in known)] if known else []
    return {name: {key: sum(each[name][key] for each in known) / len(known) for key in known[0][name]} for name in names}
