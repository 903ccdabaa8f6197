"""One stage as a process: started, watched, ended, and what it cost.

Its folder is locked by an open file that the process inherits, so the lock outlives a killed study and ends with the process:
the study that goes on waits for such an orphan instead of working beside it. On Linux the orphan is ended by the system.
"""

import ctypes
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import yaml

from skillfactory import __version__
from skillfactory.errors import InputError
from skillfactory.rundir import write_text
from skillfactory.study.plan import Node

_BEAT = 5.0  # seconds between two notes of the time spent
_PATIENCE = 20.0  # seconds that a process has to end by itself
_PR_SET_PDEATHSIG = 1
AGAIN = "--- start"  # begins the line of a log that tells a further start from the one before it
_DAMAGED = 3  # exit codes of ours, for what a process left that can't be read


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended; `again`: it was another study's, and the node has to be looked at again."""

    code: int
    again: bool = False


@dataclass(slots=True)
class Spent:
    """What a node has cost, over all its starts."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    max_rss: int = 0  # bytes, of the largest process
    starts: int = 0


class Child:
    """A stage at work in a process of ours."""

    def __init__(self, node: Node, lock: IO[str], threads: int | None) -> None:
        self.node, self._lock = node, lock
        self._spent = _spent(node)
        self._spent.starts += 1
        self._before, self._began, self._beat = (self._spent.seconds, self._spent.cpu_seconds), time.monotonic(), 0.0
        write_text(node.folder / "recipe.yaml", yaml.safe_dump({node.command: dict(node.options)}, sort_keys=False))
        command = [sys.executable, "-m", "skillfactory", node.command, "--recipe", str(node.folder / "recipe.yaml")]
        threading = {"OMP_NUM_THREADS": str(threads)} if threads else {}
        with (node.folder / "summary.json").open("wb") as out, (node.folder / "log.txt").open("ab") as log:
            if self._spent.starts > 1:
                log.write(f"{AGAIN} {self._spent.starts}\n".encode())
                log.flush()
            self._process = subprocess.Popen(
                [*command, "--json", "--quiet"],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
                env={**threading, **os.environ},
                pass_fds=(lock.fileno(),),
                preexec_fn=_dies_with_us(),
            )
        self._note(0.0, 0)

    @property
    def seconds(self) -> float:
        """Since this start."""
        return time.monotonic() - self._began

    def poll(self) -> Ended | None:
        """How the process ended; None while it is at work."""
        process, status, used = os.wait4(self._process.pid, os.WNOHANG)
        if process == 0:
            if self.seconds - self._beat >= _BEAT:
                self._note(_cpu_seconds(self._process.pid), 0)
                self._beat = self.seconds
            return None
        code = self._process.returncode = os.waitstatus_to_exitcode(status)
        unit = 1 if sys.platform == "darwin" else 1024
        self._note(used.ru_utime + used.ru_stime, used.ru_maxrss * unit)
        if code == 0:
            code = self._finish()
        self._lock.close()
        return Ended(code)

    def end(self) -> None:
        """Ends the process, with force if it takes its time."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._note(0.0, 0)
        self._lock.close()

    def _note(self, cpu_seconds: float, max_rss: int) -> None:
        """Keeps what was spent until now."""
        seconds, before = self._before
        self._spent.seconds = seconds + self.seconds
        self._spent.cpu_seconds = max(self._spent.cpu_seconds, before + cpu_seconds)
        self._spent.max_rss = max(self._spent.max_rss, max_rss)
        write_text(self.node.folder / "spent.json", json.dumps(_rounded(self._spent)) + "\n")

    def _finish(self) -> int:
        """Writes done.json, which makes the node done; the exit code."""
        folder = self.node.folder
        try:
            summary = json.loads((folder / "summary.json").read_text("utf-8"))
        except ValueError as error:
            with (folder / "log.txt").open("a", encoding="utf-8") as log:
                log.write(f"the summary is no JSON: {error}\n")
            return _DAMAGED
        about = {"id": self.node.id, "command": self.node.command, "version": __version__}
        write_text(self.node.note, json.dumps(about | _rounded(self._spent) | {"summary": summary}, indent=2) + "\n")
        return 0


class Orphan:
    """A stage at work in a process that a killed study left behind."""

    def __init__(self, node: Node, lock: IO[str]) -> None:
        self.node, self._lock = node, lock
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since it was found."""
        return time.monotonic() - self._began

    def poll(self) -> Ended | None:
        """That it has ended; None while it is at work."""
        if not _held(self._lock):
            return None
        self._lock.close()
        return Ended(0, again=True)

    def end(self) -> None:
        """Leaves it alone: it isn't ours."""
        self._lock.close()


def start(node: Node, threads: int | None) -> Child | Orphan:
    """The process of a node, new, or one that is still at work on it."""
    node.folder.mkdir(parents=True, exist_ok=True)
    lock = (node.folder / ".lock").open("w")
    if _held(lock):
        return Child(node, lock, threads)
    return Orphan(node, lock)


def _held(lock: IO[str]) -> bool:
    """Whether the lock could be taken."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _dies_with_us() -> Callable[[], Any] | None:
    """What a new process calls so that the system ends it when this one ends; None where there is no such call."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl  # looked up here: a new process had better do no more than the call
    return lambda: prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))


def _cpu_seconds(pid: int) -> float:
    """The CPU time of a process at work, without its children's; 0 where the system doesn't say."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("ascii", errors="replace").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _spent(node: Node) -> Spent:
    """What earlier starts of a node have cost."""
    path = node.folder / "spent.json"
    if not path.exists():
        return Spent()
    try:
        return Spent(**json.loads(path.read_text("utf-8")))
    except (ValueError, TypeError) as error:
        raise InputError(
            f"{path}: expected what the stage has cost, came something else ({error}); remove the file: only that is lost"
        ) from error


def _rounded(spent: Spent) -> dict[str, Any]:
    return {
        "seconds": round(spent.seconds, 2),
        "cpu_seconds": round(spent.cpu_seconds, 2),
        "max_rss": spent.max_rss,
        "starts": spent.starts,
    }
