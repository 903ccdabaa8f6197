"""What a worker on another machine needs of the place where the command was given: its folder, its modules, its variables."""

import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skillfactory.errors import ConfigError, require

# Ray sets or keeps those that say where things are on a machine; these say how libraries are to work, or who we are.
_VARIABLES = (
    "AWS_", "AZURE_", "FSSPEC_", "GOOGLE_", "HF_", "MKL_", "OMP_", "OPENAI_", "OPENBLAS_", "PYTORCH_", "SKILLFACTORY_",
    "TOKENIZERS_", "TRANSFORMERS_", "VLLM_",
)  # fmt: skip
_PROXIES = ("ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")  # in small letters too, which libraries look at first


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The folder in which a command was given, where its modules lie, and the environment that its work depends on."""

    folder: str
    modules: tuple[str, ...]
    variables: Mapping[str, str]

    @classmethod
    def here(cls, names: Iterable[str] = ()) -> "Surroundings":
        """Those of this process, with the variables of these names too."""
        own = dict.fromkeys(entry or str(Path.cwd()) for entry in sys.path)
        modules = tuple(entry for entry in own if not entry.startswith((sys.prefix, sys.base_prefix)))
        wanted = {*names, *_PROXIES, *map(str.lower, _PROXIES)}
        chosen = {name: value for name, value in os.environ.items() if name.startswith(_VARIABLES) or name in wanted}
        return cls(str(Path.cwd()), modules, chosen)

    def enter(self) -> None:
        """Makes them those of this process, as far as its machine has the folders."""
        if Path(self.folder).is_dir():
            os.chdir(self.folder)
        sys.path[:0] = [entry for entry in self.modules if entry not in sys.path and Path(entry).is_dir()]
        os.environ.update(self.variables)


def packed(value: Any) -> bytes:
    """A value as bytes, for a process that has to enter its surroundings before it can read them."""
    data: bytes = require("ray.cloudpickle", "ray").dumps(value)
    return data


def unpacked(data: bytes) -> Any:
    """The value; ConfigError if a module that it is made of isn't here."""
    try:
        return require("ray.cloudpickle", "ray").loads(data)
    except ImportError as error:
        raise ConfigError(
            f"the machine {os.uname().nodename} can't import what the command names ({error}); put it where the machine has it "
            "under the same path, or install it there (docs/cluster.md)"
        ) from error
