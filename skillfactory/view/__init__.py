"""Runs to look at in a browser on this machine: attempts, reflections, traces, responses, drops, filtered and linked."""

import sys
import webbrowser
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skillfactory.errors import ConfigError
from skillfactory.progress import Progress, Silent


@dataclass(frozen=True, slots=True)
class ViewConfig:
    """What to look at, and where."""

    runs: tuple[str, ...] = field(
        default=(),
        metadata={
            "help": "PATH or LABEL=PATH of what curate, build, evaluate, budget, intervene or run has written",
            "positional": True,
            "metavar": "RUN",
            "split": False,
        },
    )
    port: int = field(default=8765, metadata={"help": "port on 127.0.0.1; 0 is any that is free"})
    open: bool = field(default=False, metadata={"help": "open the page in a browser"})
    cache: Path | None = field(
        default=None, metadata={"help": "folder for the indexes of runs", "shown": "skillfactory/view in the user's cache"}
    )

    def __post_init__(self) -> None:
        if not self.runs:
            raise ConfigError("runs: expected at least one RUN to look at, came none")
        if not 0 <= self.port < 1 << 16:
            raise ConfigError(f"port: expected a number from 0 to 65535, came {self.port}")


@dataclass(frozen=True, slots=True)
class Viewed:
    """What was looked at, after the end."""

    url: str
    runs: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON-safe values."""
        return {"url": self.url, "runs": list(self.runs)}


def told(text: str) -> None:
    """Says a line to the user at once, beside the results."""
    print(text, file=sys.stderr, flush=True)


def view(config: ViewConfig, progress: Progress | None = None, say: Callable[[str], None] = told) -> Viewed:
    """Serves the pages until Ctrl-C; `say` gets their address when a browser can ask for it.

    InputError for a path at which there is nothing to see, ConfigError for a port that is in use.
    """
    from skillfactory.view.library import Library
    from skillfactory.view.server import Server

    library = Library.open(config.runs, progress or Silent(), config.cache)
    with Server(library, config.port) as server:
        try:
            say(f"{server.url} (Ctrl-C ends it)")
            if config.open and not webbrowser.open(server.url):
                say("no browser could be opened: open the address in one")
            server.serve_forever()
        except KeyboardInterrupt:
            say("")
        return Viewed(server.url, tuple(run.output.label for run in library.runs))
