"""Prompts and phrases as data: YAML files, shipped or the user's, read into frozen records and checked.

Placeholders are filled in one pass, so a question or a model's text that itself holds `{question}` stays as it is.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from skillfactory.errors import ConfigError, InputError, unknown
from skillfactory.flow import Message
from skillfactory.records import Question
from skillfactory.values import came

BRIEF = "brief"  # in place of a file: the shipped prompts in few words, for models that know few

_PLACE = re.compile(r"\{(question|attempt|answer|answer_format)\}")


@dataclass(frozen=True, slots=True)
class Variant:
    """One way of asking for a solution."""

    name: str
    system: str | None
    suffix: str

    def messages(self, question: Question, answer_format: str) -> tuple[Message, ...]:
        """The turns that ask for a solution: the suffix stands under the question, after a blank line."""
        values = {"answer_format": answer_format, "answer": question.answer}
        user = f"{question.prompt}\n\n{_fill(self.suffix, values)}"
        return _turns(self.system and _fill(self.system, values), user)


@dataclass(frozen=True, slots=True)
class Hints:
    """Variants that show the right answer, and the words that give away that a response saw it."""

    variants: tuple[Variant, ...]
    leaks: tuple[str, ...]

    def leak(self, text: str) -> str | None:
        """The first of the telling words that `text` holds as whole words, or None; time is linear in the text."""
        words = f" {_words(text)} "
        return next((leak for leak in self.leaks if f" {_words(leak)} " in words), None)


@dataclass(frozen=True, slots=True)
class ReflectionPrompt:
    """How the model is asked to review an attempt."""

    system: str | None
    template: str

    def messages(self, question: Question, attempt: str) -> tuple[Message, ...]:
        """The turns that ask for a review of the text `attempt`."""
        return _turns(self.system, _fill(self.template, {"question": question.prompt, "attempt": attempt}))


@dataclass(frozen=True, slots=True)
class Phrases:
    """The words between and after the blocks of a trace, by kind."""

    neutral: tuple[str, ...]  # fits after any attempt
    affirm: tuple[str, ...]  # follows a correct attempt: checked once more
    retry: tuple[str, ...]  # follows an incorrect one: admits the error, tries again
    closing: tuple[str, ...]  # leads to the final answer
    backtrack: tuple[str, ...]  # the last try was wrong: back to an earlier one
    confirm: tuple[str, ...]  # confirmed more than once


def load_variants(path: Path | None = None, names: Sequence[str] | None = None) -> tuple[Variant, ...]:
    """The prompt variants of a file (the shipped `variants.yaml` if None), all of them or those of `names`, in their order."""
    where, content = _read(path, "variants.yaml", ("variants",))
    variants = _variants(where, content, hinted=False)
    if not names:
        return variants
    known = {variant.name: variant for variant in variants}
    for name in names:
        if name not in known:
            raise unknown("prompt variant", name, known)
    return tuple(known[name] for name in dict.fromkeys(names))


def load_hints(path: Path | None = None) -> Hints:
    """The variants that show the answer and their leak filter, from a file (the shipped `hints.yaml` if None)."""
    where, content = _read(path, "hints.yaml", ("variants", "leaks"))
    leaks = _texts(where, "leaks", content["leaks"])
    blank = next((leak for leak in leaks if not _words(leak)), None)
    if blank is not None:
        raise ConfigError(f"{where}: leaks: expected words, came '{blank}', which holds no letter or digit")
    return Hints(_variants(where, content, hinted=True), leaks)


def load_reflection(path: Path | None = None) -> ReflectionPrompt:
    """The prompt that asks for a reflection, from a file (the shipped `reflection.yaml` if None)."""
    where, content = _read(path, "reflection.yaml", ("system", "template"))
    template = _text(where, "template", content["template"])
    _holds(where, "template", template, ("question", "attempt"))
    return ReflectionPrompt(_system(where, content["system"]), template)


def load_phrases(path: Path | None = None) -> Phrases:
    """The phrases of the six kinds, from a file (the shipped `phrases.yaml` if None)."""
    kinds = tuple(field.name for field in fields(Phrases))
    where, content = _read(path, "phrases.yaml", kinds)
    phrases = {kind: _texts(where, kind, content[kind]) for kind in kinds}
    for kind, texts in phrases.items():
        tagged = next((text for text in texts if "<" in text or ">" in text), None)
        if tagged is not None:
            raise ConfigError(f"{where}: {kind}: a phrase may hold no tag: '{tagged}'")
    return Phrases(**phrases)


def _fill(template: str, values: Mapping[str, str]) -> str:
    return _PLACE.sub(lambda found: values.get(found[1], found[0]), template)


def _turns(system: str | None, user: str) -> tuple[Message, ...]:
    return (("system", system), ("user", user)) if system else (("user", user),)


def _words(text: str) -> str:
    """The runs of letters and digits in `text`, in lower case, full-width and the like made plain, one space between."""
    # Character by character: the library takes quadratic time for a long run of combining marks.
    plain = text if text.isascii() else "".join(unicodedata.normalize("NFKC", character) for character in text)
    return " ".join(re.findall(r"[^\W_]+", plain.casefold()))


def _read(path: Path | None, shipped: str, keys: tuple[str, ...]) -> tuple[str, Mapping[str, Any]]:
    """The name of a file for messages, and its content: a mapping with exactly `keys`."""
    where = str(path or shipped)
    try:
        if path is None or str(path) == BRIEF:
            text = resources.files(__name__).joinpath(*path.parts if path else (), shipped).read_text("utf-8")
        else:
            text = path.read_text("utf-8")
        content = yaml.safe_load(text)
    except OSError as error:
        raise InputError(f"{where}: can't read the file: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{where}: not a YAML file: {' '.join(str(error).split())}") from error
    _keys(where, content, keys)
    return where, content


def _keys(where: str, content: Any, keys: tuple[str, ...]) -> None:
    if not isinstance(content, Mapping):
        raise ConfigError(f"{where}: expected a mapping with the keys {', '.join(keys)}, came {came(content)}")
    for key in content:
        if key not in keys:
            raise ConfigError(f"{where}: {unknown('key', str(key), keys)}")
    missing = [key for key in keys if key not in content]
    if missing:
        raise ConfigError(f"{where}: the key '{missing[0]}' is missing (expected: {', '.join(keys)})")


def _variants(where: str, content: Mapping[str, Any], hinted: bool) -> tuple[Variant, ...]:
    rows = content["variants"]
    if not isinstance(rows, list) or not rows:
        raise ConfigError(f"{where}: variants: expected a list of at least one variant, came {came(rows)}")
    variants = tuple(_variant(f"{where}: variant {number}", row, hinted) for number, row in enumerate(rows, 1))
    _unique(f"{where}: variants", (variant.name for variant in variants))
    return variants


def _variant(where: str, row: Any, hinted: bool) -> Variant:
    _keys(where, row, ("name", "system", "suffix"))
    name, suffix = _text(where, "name", row["name"]), _text(where, "suffix", row["suffix"])
    if not re.fullmatch(r"[\w.+-]{1,64}", name):
        raise ConfigError(f"{where}: name: expected up to 64 letters, digits, '_', '-', '+' or '.', came '{name}'")
    system = _system(where, row["system"])
    _holds(where, "suffix", suffix, ("answer",) if hinted else ())
    if not hinted and "{answer}" in f"{system} {suffix}":
        raise ConfigError(f"{where}: {{answer}} shows the right answer: only hint variants may hold it")
    return Variant(name, system, suffix)


def _holds(where: str, key: str, text: str, names: Iterable[str]) -> None:
    for name in names:
        if f"{{{name}}}" not in text:
            raise ConfigError(f"{where}: {key}: the placeholder {{{name}}} is missing")


def _system(where: str, value: Any) -> str | None:
    return None if value is None else _text(where, "system", value)


def _text(where: str, key: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(f"{where}: {key}: expected text, came {came(value)}")
    return value.strip()


def _texts(where: str, key: str, values: Any) -> tuple[str, ...]:
    if not isinstance(values, list) or not values:
        raise ConfigError(f"{where}: {key}: expected a list of at least one text, came {came(values)}")
    texts = tuple(_text(where, key, value) for value in values)
    _unique(f"{where}: {key}", texts)
    return texts


def _unique(where: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ConfigError(f"{where}: '{name}' stands twice")
        seen.add(name)
