"""Engines by name: models behind the protocol of `flow.Engine`.

An engine is a class with a frozen dataclass `Options` that is built from an instance of it. Those of ours are named in
`ENGINES`; any other one is named as `module:Class`.
"""

import importlib
from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any

from skillfactory.config import from_options
from skillfactory.errors import ConfigError, searched, unknown
from skillfactory.flow import Engine

ENGINES: Mapping[str, str] = {
    "openai": "skillfactory.engines.openai:OpenAIEngine",
    "scripted": "skillfactory.engines.scripted:ScriptedEngine",
    "transformers": "skillfactory.engines.hf:TransformersEngine",
    "vllm": "skillfactory.engines.vllm:VllmEngine",
}


def imported(name: str) -> Any:
    """The object that `module:object` names."""
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise ConfigError(f"'{name}' is not of the form module:object, e.g. my_package.answers:right")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, TypeError) as error:  # TypeError: a relative name
        raise ConfigError(f"'{name}' can't be imported: {error}; {searched()}") from error
    except AttributeError as error:
        raise ConfigError(f"'{name}' can't be imported: module '{module}' has no '{attribute}'") from error


def engine_class(name: str) -> Any:
    """The class of the engine `name`: one of ours, or `module:Class`. Imports no model library."""
    if ":" not in name and name not in ENGINES:
        raise unknown("engine", name, ENGINES)
    found = imported(ENGINES.get(name, name))
    if not is_dataclass(getattr(found, "Options", None)):
        raise ConfigError(f"'{name}' is no engine: it has no dataclass 'Options'; see skillfactory.engines")
    return found


def open_engine(name: str, options: Mapping[str, Any]) -> Engine:
    """The engine `name`, started; unknown, missing and unfit options are errors that name them."""
    found = engine_class(name)
    engine: Engine = found(from_options(found.Options, options, f"option of the engine {name},"))
    return engine
