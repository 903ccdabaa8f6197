"""A judge model: what it is asked of a text, and what its reply says, read by an exact grammar.

The flow of a text asks once. A reply that isn't in the grammar is data with a reason, and so is a text that is too long to ask
about; neither is guessed at.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from skillfactory.errors import ConfigError, InputError, unknown
from skillfactory.flow import Flow, Message, Request, Sampling
from skillfactory.records import Stop
from skillfactory.seeds import derive
from skillfactory.values import came

SHIPPED = "judge.yaml"
LONGEST = 60_000  # characters of a text that a judge is asked about
_KEYS = ("system", "template", "skills")
_PLACE = re.compile(r"\{(skills|form|text)\}")
_FENCE = re.compile(r"</?text>", re.IGNORECASE)
_LINE = re.compile(r"([a-z][a-z0-9_]{0,31}) {0,3}: {0,3}(yes|no)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class JudgePrompt:
    """What a judge is asked: the words, and the skills with what each means."""

    system: str
    template: str
    skills: Mapping[str, str]

    def messages(self, text: str) -> tuple[Message, ...]:
        """The turns that ask about a text. It can't end its own quotation: marks of that are blanked."""
        values = {
            "skills": "\n".join(f"{name}: {meaning}" for name, meaning in self.skills.items()),
            "form": "\n".join(f"{name}: yes or no" for name in self.skills),
            "text": _FENCE.sub(" ", text),
        }
        return ("system", self.system), ("user", _PLACE.sub(lambda found: values[found[1]], self.template))


@dataclass(frozen=True, slots=True)
class Opinion:
    """What a judge says of a text: for each skill whether it shows it; None with a reason where nothing can be made of it."""

    says: Mapping[str, bool] | None
    reason: str  # "" where it says something
    key: str = ""  # of the completion


def read_reply(reply: str, skills: Mapping[str, str]) -> Opinion:
    """The opinion in a judge's reply: a line `skill: yes` or `skill: no` for each skill in any order, and nothing else.

    What stands before the last `</think>` is the judge's own thinking, and doesn't count. Reasons: no_reply, unclosed_think,
    other_words, unknown_skill, said_twice, skill_missing.
    """
    _, closed, after = reply.rpartition("</think>")
    if not closed and "<think>" in reply:
        return Opinion(None, "unclosed_think")
    lines = [line.strip() for line in after.splitlines() if line.strip()]
    if not lines:
        return Opinion(None, "no_reply")
    says: dict[str, bool] = {}
    for line in lines:
        found = _LINE.fullmatch(line)
        if found is None:
            return Opinion(None, "other_words")
        name = found[1].lower()
        if name not in skills or name in says:
            return Opinion(None, "said_twice" if name in says else "unknown_skill")
        says[name] = found[2].lower() == "yes"
    return Opinion(None, "skill_missing") if len(says) < len(skills) else Opinion(says, "")


def judge(id: str, text: str, prompt: JudgePrompt, sampling: Sampling, seed: int) -> Flow[Opinion]:
    """The flow of one text, which is known by `id`. Other reasons than those of a reply: too_long, cut_off, engine_error."""
    if len(text) > LONGEST:
        return Opinion(None, "too_long")
    (completion,) = yield [Request(prompt.messages(text), sampling, derive(seed, "judge", id))]
    if completion.stop is not Stop.END:
        reason = "engine_error" if completion.stop is Stop.ERROR else "cut_off"
        return Opinion(None, reason, completion.key)
    found = read_reply(completion.text, prompt.skills)
    return Opinion(found.says, found.reason, completion.key)


def load_judge(path: Path | None = None) -> JudgePrompt:
    """The judge's prompt from a file (the shipped one if None); errors name the file and the key."""
    where = str(path or SHIPPED)
    try:
        place = resources.files("skillfactory.skills").joinpath(SHIPPED) if path is None else path
        content = yaml.safe_load(place.read_text("utf-8"))
    except OSError as error:
        raise InputError(f"{where}: can't read the judge's prompt: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{where}: not a YAML file: {' '.join(str(error).split())}") from error
    if not isinstance(content, Mapping):
        raise ConfigError(f"{where}: expected a mapping with {', '.join(_KEYS)}, came {came(content)}")
    for key in content:
        if key not in _KEYS:
            raise ConfigError(f"{where}: {unknown('key', str(key), _KEYS)}")
    system, template = (_text(where, key, content.get(key)) for key in ("system", "template"))
    missing = [name for name in ("skills", "form", "text") if f"{{{name}}}" not in template]
    if missing:
        raise ConfigError(f"{where}: template: the placeholder {{{missing[0]}}} is missing")
    return JudgePrompt(system, template, _skills(where, content.get("skills")))


def _skills(where: str, rows: Any) -> dict[str, str]:
    if not isinstance(rows, Mapping) or not rows:
        raise ConfigError(f"{where}: skills: expected a mapping of skills to what each means, came {came(rows)}")
    for name in rows:
        if not isinstance(name, str) or not re.fullmatch(r"[a-z][a-z0-9_]{0,31}", name):
            raise ConfigError(f"{where}: skills: a name has up to 32 of a-z, 0-9 and _, a letter first, and '{name}' hasn't")
    return {name: _text(where, f"skills: {name}", meaning) for name, meaning in rows.items()}


def _text(where: str, key: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(f"{where}: {key}: expected text, came {came(value)}")
    return value.strip()
