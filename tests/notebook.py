"""A scripted engine that notes what it is asked and what is safe, in files: so that tests know it after a kill."""

import os
from collections.abc import Sequence
from pathlib import Path

import solver

from skillfactory.engines.scripted import Answer, ScriptedEngine, ScriptedOptions
from skillfactory.flow import Completion, Request, failed


class Noting(ScriptedEngine):
    """Notes each request as asked, and as kept once it is called again: by then its completion is on disk."""

    def __init__(self, folder: Path, answer: Answer = solver.answer, delay: float = 0.0, concurrency: int = 16) -> None:
        super().__init__(ScriptedOptions(answer, delay, concurrency))
        self._notes = (folder / str(os.getpid())).open("a", encoding="utf-8", buffering=1)
        self._given: list[str] = []

    def submit(self, requests: Sequence[Request]) -> None:
        """As the engine does."""
        self._note("kept", self._given)
        self._note("asked", [request.key for request in requests])
        super().submit(requests)

    def collect(self) -> Sequence[Completion]:
        """As the engine does."""
        self._note("kept", self._given)
        found = super().collect()
        self._given = [completion.key for completion in found]
        return found

    def _note(self, what: str, keys: list[str]) -> None:
        self._notes.write("".join(f"{what} {key}\n" for key in keys))
        self._notes.flush()
        if what == "kept":
            self._given = []


class Mortal(Noting):
    """The same with a bug: it raises after so many completions."""

    def __init__(self, folder: Path, life: int) -> None:
        super().__init__(folder)
        self._life = life

    def collect(self) -> Sequence[Completion]:
        """What the engine has, until it raises."""
        found = super().collect()
        self._life -= len(found)
        if self._life < 0:
            raise RuntimeError("a bug of the engine")
        return found


def notes(folder: Path) -> dict[int, list[tuple[str, str]]]:
    """What was noted, by process; a line that a kill has cut off is left out."""
    found = {}
    for path in folder.iterdir():
        whole = path.read_text("utf-8").rpartition("\n")[0].splitlines()
        found[int(path.name)] = [(what, key) for what, _, key in (line.partition(" ") for line in whole)]
    return found


def asked(folder: Path) -> list[str]:
    """The keys of all requests that were asked, as often as they were."""
    return [key for lines in notes(folder).values() for what, key in lines if what == "asked"]


def kept(folder: Path) -> list[str]:
    """The keys whose completions are on disk for sure."""
    return [key for lines in notes(folder).values() for what, key in lines if what == "kept"]


def die(request: Request) -> str:
    """Ends the process that answers the request, as running out of memory does."""
    os._exit(9)


def stumble(request: Request) -> str:
    """A bug."""
    raise KeyError("a bug of the engine")


def dead(request: Request) -> Completion:
    """A failure, as of a server that knows no such model."""
    return failed(request, "HTTP 404: no such model")
