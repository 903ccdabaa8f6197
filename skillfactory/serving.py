"""The engine that a stage's configuration names: its options, what tells its model from others, and how it is opened."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

from skillfactory.config import checked, settings
from skillfactory.curate import Generation
from skillfactory.embedded import located
from skillfactory.engines import ENGINES, engine_class, open_engine
from skillfactory.errors import ConfigError
from skillfactory.evaluate import Answering
from skillfactory.flow import Engine

BATCH = 128  # rows of the engine transformers; a model of 1M parameters makes twice as many tokens a second as with 32
_TELLING: Mapping[str, Any] = {  # engine options that make another model of the same name, with their defaults
    "revision": None,
    "dtype": "auto",
    "attention": None,
    "exact": True,
    "chat_template": None,
    "engine_args": {},
    "extended_sampling": True,
    "extra_body": {},
    "answer": None,
}


def read_options(generation: Generation) -> dict[str, Any]:
    """The engine's options, text among them read as their fields' types; those of an unknown engine as they are."""
    name, values = generation.engine, generation.engine_option
    if name not in ENGINES and ":" not in name:
        return dict(values)
    return checked(engine_class(name).Options, values, lambda key: " ".join((f"option of the engine {name},", *key)))


def shown_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that may come to disk: not a key that was given where the name of its variable belongs."""
    return {name: value for name, value in options.items() if name != "api_key_env"}


def model_name(generation: Generation, options: Mapping[str, Any]) -> str:
    """What tells one model's texts from another's."""
    telling = {name: options.get(name, default) for name, default in _TELLING.items()}
    told = ", ".join(f"{name}={_told(value)}" for name, value in telling.items() if value != _TELLING[name])
    return f"{generation.model or generation.engine}{f' ({told})' if told else ''}"


def fingerprint(model: str) -> str:
    """A hash of the files of a local model's folder that its texts depend on; "" if there is no such folder."""
    folder = Path(located(model))
    if not folder.is_dir():
        return ""
    found = blake2b(digest_size=6)
    for path in sorted(folder.iterdir()):
        if path.suffix in (".safetensors", ".bin", ".json", ".jinja", ".model", ".txt") and path.name != "training.json":
            with path.open("rb") as file:
                found.update(path.name.encode())
                while block := file.read(1 << 20):
                    found.update(block)
    return found.hexdigest()


def answering(how: Answering, model: str) -> Generation:
    """The engine and its options for a model that answers held-out questions."""
    options = dict(how.engine_option)
    if how.engine == "transformers":
        options.setdefault("batch_size", BATCH)
    known = [each.name for each in settings(engine_class(how.engine).Options)]
    return Generation(how.engine, model if "model" in known else "", options)


def known_as(generation: Generation, model: str) -> str:
    """What a run directory calls a model whose files may move.

    A folder is known by what it holds: moved, it stays the same model, and trained again it is another one.
    """
    files = fingerprint(model)
    name = f"{Path(model).name} (files {files})" if files else model
    return model_name(replace(generation, model=name), read_options(generation))


def opener(generation: Generation) -> Callable[[], Engine]:
    """A function that starts the engine; ConfigError if two models are named."""
    options = dict(generation.engine_option)
    if generation.model:
        if options.get("model", generation.model) != generation.model:
            raise ConfigError(f"two models are given: model '{generation.model}', engine option model '{options['model']}'")
        options["model"] = generation.model
    return partial(open_engine, generation.engine, options)


def _told(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True) if isinstance(value, Mapping) else str(value)
