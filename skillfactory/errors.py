"""Errors that a user can act on. Each message says what was expected, what came and what to do."""

import difflib
import importlib
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType


class SkillFactoryError(Exception):
    """Anything that the user's input, configuration or environment caused; the CLI prints it without a traceback."""


class InputError(SkillFactoryError):
    """A file, row, column or value that can't be used; the message names it."""


class ConfigError(SkillFactoryError):
    """An option, recipe key, name or pattern that isn't valid."""


class EngineError(SkillFactoryError):
    """An engine that can't be started or reached."""


class RunLockedError(SkillFactoryError):
    """A run directory that another process is working on."""


def require(module: str, extra: str) -> ModuleType:
    """The imported `module`, or an error that names the `pip install` which brings it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        remedy = f"install it with: pip install '.[{extra}]' in the clone of SkillFactory"
        raise ConfigError(f"{module} can't be imported ({error}); {remedy}") from error


def searched() -> str:
    """Where a module was looked for, in words: the folders beside the installed packages."""
    own = [entry or str(Path.cwd()) for entry in sys.path if not entry.startswith((sys.prefix, sys.base_prefix))]
    return ", ".join(["looked in the installed packages", *dict.fromkeys(own)])


def unknown(what: str, name: str, known: Iterable[str]) -> ConfigError:
    """An error for an unknown name, with the nearest known one and the whole list."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    return ConfigError(f"unknown {what} '{name}'{hint} (known: {', '.join(names)})")
