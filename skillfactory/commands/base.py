"""What a command is."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from skillfactory.progress import Progress


class Summary(Protocol):
    """What a stage came to."""

    def to_dict(self) -> dict[str, Any]:
        """The summary as JSON-safe values."""


Result = Summary | Iterator[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Command:
    """A subcommand. `run` gives a summary, or rows one after another, which `--json` prints; `show` makes it readable."""

    summary: str
    description: str
    example: str
    resume: str  # what to know after Ctrl-C
    config: Callable[[], type[Any]]
    run: Callable[[Any, Progress], Result]
    show: Callable[[Any], Iterable[str]]
    pairs: Callable[[], Mapping[str, type[Any]]] = dict  # what KEY=VALUE options may hold: a title → a dataclass
