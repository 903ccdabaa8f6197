"""Nodes run as processes of their own, some at a time: what is done is skipped, what a kill left is gone on with.

A node's folder holds `recipe.yaml` (its options), `summary.json` (what its command printed), `log.txt` (its errors),
`spent.json` (time spent so far, for a node that a kill stops) and at the end `done.json`.
"""

import json
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skillfactory.errors import InputError, SkillFactoryError
from skillfactory.progress import Progress
from skillfactory.study.child import AGAIN, Child, Ended, Orphan, start
from skillfactory.study.plan import Node, Plan

_TICK = 0.1  # seconds between two looks at the processes
_TELL = 1.0  # seconds between two lines of progress
_LAST = 8  # lines of a log in a message


class StageFailedError(SkillFactoryError):
    """Stages that ended with an error."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A node that ended with an error."""

    node: Node
    code: int

    def __str__(self) -> str:
        lines = self.log.read_text("utf-8", errors="replace").splitlines()
        begun = max((place for place, line in enumerate(lines, 1) if line.startswith(f"{AGAIN} ")), default=0)
        lines = lines[begun:][-_LAST:]
        said = "\n".join(f"    {line}" for line in lines) or "    (it said nothing)"
        how = f"ended with exit code {self.code}" if self.code >= 0 else f"was killed by signal {-self.code}"
        return f"stage {self.node.id} {how}:\n{said}\n  all of it: {self.log}"

    @property
    def log(self) -> Path:
        """Its errors."""
        return self.node.folder / "log.txt"


def finished(node: Node) -> bool:
    """Whether a node is done."""
    return node.note.exists()


def account(node: Node) -> dict[str, Any]:
    """What a finished node cost, and the summary of its command."""
    try:
        found: dict[str, Any] = json.loads(node.note.read_text("utf-8"))
        if isinstance(found["summary"], dict):
            return found
    except (ValueError, TypeError, KeyError):
        pass
    raise InputError(
        f"{node.note}: expected what the stage {node.id} cost and said, came something else (damaged?); "
        "remove the file, and the same command asks the stage again, which keeps what it has made"
    )


def work(plan: Plan, nodes: Iterable[str], workers: int, progress: Progress) -> None:
    """Runs the nodes that aren't done, and those that they need; StageFailedError if some failed, once the rest is done.

    A node that failed stops those that need it. If this process ends, its children do.
    """
    wanted = _closure(plan, nodes)
    crew = _Crew(plan, wanted, workers, progress)
    progress.begin("run", "stages", len(wanted))
    progress.advance(len(crew.done))
    try:
        crew.run()
    finally:
        crew.stop()
        progress.end()
    if crew.failures:
        left = len(wanted) - len(crew.done) - len(crew.failures)
        waiting = f"\n{left} stages that need them were not started" if left else ""
        advice = "\nthe same command goes on, once the cause is mended"
        raise StageFailedError("\n".join(map(str, crew.failures)) + waiting + advice)


def _closure(plan: Plan, nodes: Iterable[str]) -> list[Node]:
    """The nodes with all that they need, in the plan's order. What only a finished node needs is needed no more."""
    wanted, open_ = set[str](), list(nodes)
    while open_:
        name = open_.pop()
        if name not in wanted:
            wanted.add(name)
            if not finished(plan.nodes[name]):
                open_ += plan.nodes[name].needs
    return [node for node in plan.nodes.values() if node.id in wanted]


class _Crew:
    """The processes at work."""

    def __init__(self, plan: Plan, wanted: Sequence[Node], workers: int, progress: Progress) -> None:
        self.done = {node.id for node in wanted if finished(node)}
        self.failures: list[Failure] = []
        length = plan.lengths()
        left = [node for node in wanted if node.id not in self.done]
        self._left = sorted(left, key=lambda node: (node.seed, -length[node.id]))
        self._workers, self._progress = workers, progress
        self._threads = max(1, (os.cpu_count() or 1) // workers) if workers > 1 else None  # None: the stage's own choice
        self._at_work: list[Child | Orphan] = []
        self._told = 0.0

    def run(self) -> None:
        """Starts nodes as they become ready and there is room, until nothing runs and nothing can."""
        while True:
            while len(self._at_work) < self._workers and (node := self._next()):
                self._left.remove(node)
                self._at_work.append(start(node, self._threads))
            if not self._at_work:
                return
            time.sleep(_TICK)
            for child in list(self._at_work):
                ended = child.poll()
                if ended is not None:
                    self._at_work.remove(child)
                    self._end(child.node, ended)
            self._tell()

    def stop(self) -> None:
        """Ends the processes that are still at work."""
        for child in self._at_work:
            child.end()
        self._at_work = []

    def _next(self) -> Node | None:
        """The next node whose needs are done."""
        return next((node for node in self._left if self.done >= {*node.needs} or finished(node)), None)

    def _end(self, node: Node, ended: Ended) -> None:
        if ended.again:  # an orphan of a killed study has ended: look what it left
            self._left.insert(0, node)
        elif ended.code == 0:
            self.done.add(node.id)
            self._progress.advance(1, "")
        else:
            self.failures.append(Failure(node, ended.code))

    def _tell(self) -> None:
        now = time.monotonic()
        if now - self._told >= _TELL:
            self._told = now
            self._progress.advance(0, ", ".join(f"{child.node.stage} {child.seconds:.0f} s" for child in self._at_work))
