"""Skills in plain words: findings of stated rules in text without tags, each with its rule and its place.

The rules are data (`implicit.yaml`, or a file of the user's) in the language of `phrases`. They tell what a writer says of what
it does, not whether it does it well. Time is linear in the text, and so is memory: a text has MOST findings at most.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from skillfactory.errors import ConfigError, InputError, unknown
from skillfactory.seeds import digest
from skillfactory.skills.phrases import KEYS, NUMBERS, Pattern, compiled, plain, sentence
from skillfactory.values import came

SHIPPED = "implicit.yaml"
MOST = 1000  # findings of a skill in a text
_KEYS = ("name", "says", "unless")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")


class Finding(NamedTuple):
    """A place where a text shows a skill: characters `start` to `end`, end excluded."""

    skill: str
    rule: str
    start: int
    end: int


class _Entry(NamedTuple):
    """What may begin at one piece of text: the rules of one skill as an expression with a group for each."""

    skill: str
    rules: tuple[str, ...]
    says: re.Pattern[str]


@dataclass(frozen=True)
class Rules:
    """The rules of several skills, found by the piece of text at which a match begins: most pieces begin none."""

    skills: tuple[str, ...]
    begin: Mapping[str, tuple[_Entry, ...]]
    unless: Mapping[tuple[str, str], re.Pattern[str]]  # by skill and rule
    stamp: str = ""  # a hash of what they say


def implicit(text: str, rules: Rules) -> list[Finding]:
    """The findings in a text by place, of each skill one in a sentence at most."""
    text = plain(text)
    found: list[Finding] = []
    counts: Counter[str] = Counter()
    free = dict.fromkeys(rules.skills, 0)  # where the next finding of a skill may begin
    begin = rules.begin
    numbers = begin.get(NUMBERS, ())
    for piece in KEYS.finditer(text):
        key = piece.group()
        entries = begin.get(key, ())
        if key[0].isdecimal():
            entries += numbers
        for skill, names, says in entries:
            start = piece.start()
            match = says.match(text, start) if start >= free[skill] and counts[skill] < MOST else None
            if match is None:
                continue
            rule = names[(match.lastindex or 1) - 1]
            low, high = sentence(text, start, match.end())
            guard = rules.unless.get((skill, rule))
            if guard is None or not guard.search(text, low, high):
                found.append(Finding(skill, rule, start, match.end()))
                counts[skill] += 1
                free[skill] = max(high, match.end())
    return found


def shown_skills(text: str, rules: Rules) -> Counter[str]:
    """How often a text shows each skill."""
    return Counter(finding.skill for finding in implicit(text, rules))


@lru_cache(maxsize=8)
def load_rules(path: Path | None = None) -> Rules:
    """The rules of a file (the shipped one if None); errors name the file, the skill, the rule and the pattern."""
    where = str(path or SHIPPED)
    try:
        place = resources.files("skillfactory.skills").joinpath(SHIPPED) if path is None else path
        content = yaml.safe_load(place.read_text("utf-8"))
    except OSError as error:
        raise InputError(f"{where}: can't read the rules: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{where}: not a YAML file: {' '.join(str(error).split())}") from error
    if not isinstance(content, Mapping) or not content:
        raise ConfigError(f"{where}: expected a mapping of skills to their rules, came {came(content)}")
    begin: dict[str, list[_Entry]] = {}
    unless: dict[tuple[str, str], re.Pattern[str]] = {}
    for skill, rows in content.items():
        if not isinstance(skill, str) or not _NAME.fullmatch(skill):
            raise ConfigError(f"{where}: a skill's name has up to 32 of a-z, 0-9 and _, a letter first, and '{skill}' hasn't")
        rules = _rules(f"{where}: {skill}", rows)
        unless |= {(skill, rule.name): re.compile(rule.unless) for rule in rules if rule.unless}
        for key, entry in _entries(skill, rules).items():
            begin.setdefault(key, []).append(entry)
    stamp = digest(json.dumps(content, sort_keys=True, default=str))
    return Rules(tuple(content), {key: tuple(entries) for key, entries in begin.items()}, unless, stamp)


class _Rule(NamedTuple):
    name: str
    says: list[Pattern]
    unless: str  # an expression, "" for none


def _entries(skill: str, rules: Sequence[_Rule]) -> dict[str, _Entry]:
    """The rules of a skill by what their matches begin with."""
    found: dict[str, dict[str, list[str]]] = {}
    for rule in rules:
        for pattern in rule.says:
            for key in pattern.keys:
                found.setdefault(key, {}).setdefault(rule.name, []).append(pattern.expression)
    return {
        key: _Entry(skill, tuple(named), re.compile("|".join(f"({'|'.join(says)})" for says in named.values())))
        for key, named in found.items()
    }


def _rules(where: str, rows: Any) -> list[_Rule]:
    if not isinstance(rows, list) or not rows:
        raise ConfigError(f"{where}: expected a list of at least one rule, came {came(rows)}")
    rules = [_rule(f"{where}: rule {number}", row) for number, row in enumerate(rows, 1)]
    names = [rule.name for rule in rules]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"{where}: two rules are called '{twice}'; give each a name of its own")
    return rules


def _rule(where: str, row: Any) -> _Rule:
    if not isinstance(row, Mapping):
        raise ConfigError(f"{where}: expected a mapping with name and says, came {came(row)}")
    for key in row:
        if key not in _KEYS:
            raise ConfigError(f"{where}: {unknown('key', str(key), _KEYS)}")
    name = row.get("name")
    if not isinstance(name, str) or not name.strip():
        raise ConfigError(f"{where}: name: expected text, came {came(name)}")
    guards = _patterns(f"{where} ({name}): unless", row["unless"]) if "unless" in row else []
    says = _patterns(f"{where} ({name}): says", row.get("says"))
    return _Rule(name, says, "|".join(guard.expression for guard in guards))


def _patterns(where: str, patterns: Any) -> list[Pattern]:
    if not isinstance(patterns, list) or not patterns or not all(isinstance(pattern, str) for pattern in patterns):
        raise ConfigError(f"{where}: expected a list of at least one pattern, came {came(patterns)}")
    try:
        return [compiled(pattern) for pattern in patterns]
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
