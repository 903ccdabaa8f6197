"""Who has a run directory that stands elsewhere: a file that its process writes anew every few seconds.

File systems behind URLs have no locks that the death of a process frees. Whether a process lives is seen by its file alone: it
changes or it doesn't. No clock of one machine is compared with that of another. `docs/runs.md` says what is promised.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from skillfactory.errors import RunLockedError
from skillfactory.places import (
    address,
    files,
    make_folder,
    own_errors,
    put,
    put_new,
    reaching,
    read,
    remove,
    store_errors,
    unreachable,
)

BEAT = 5.0  # seconds between signs of life: two small requests each
STALE = 60.0  # seconds without one until a process counts as dead: longer than the short outages of a store
_PATTERN = ".holder-*"


@contextmanager
def held(directory: Path, beat: float = BEAT, stale: float = STALE, asked: bool = False) -> Iterator[Callable[[], None]]:
    """Holds a directory elsewhere for this process; RunLockedError, naming who has it, if another one lives that does.

    A dead one is known at once if it was of this machine, else after `stale` seconds without a sign of life. What it gives is
    to be called now and then: RunLockedError if another process has taken this one for dead. It says what the last sign of life
    found, or, if `asked`, what the holder says in that moment.
    """
    token = uuid4().hex
    with reaching(directory):
        make_folder(directory)
        holder = _take(directory, token, beat, stale)
    life = _Life(holder, token, beat)
    life.start()
    try:
        yield life.ask if asked else life.check
    except own_errors() as error:
        raise unreachable(directory, error) from error
    finally:
        life.end()


class _Life(threading.Thread):
    """The signs of life of this process."""

    def __init__(self, path: Path, token: str, beat: float) -> None:
        super().__init__(daemon=True, name="signs of life")
        self._path, self._token, self._beat = path, token, beat
        self._over = threading.Event()

    def run(self) -> None:
        """Signs of life until the end, or until another process has taken over."""
        while not self._over.wait(self._beat):
            with suppress(*store_errors()):  # who writes results fails by itself, if an outage is too long
                if not _is_ours(self._path, self._token):
                    return
                put(self._path, _sign(self._token))

    def check(self) -> None:
        """RunLockedError if another process has taken over."""
        if not self.is_alive():
            raise self._loss()

    def ask(self) -> None:
        """The same, as things stand now: two requests."""
        if not _is_ours(self._path, self._token):
            raise self._loss()

    def _loss(self) -> RunLockedError:
        return RunLockedError(
            f"{self._path.parent}: this process gave no sign of life for too long, and another one has taken over its "
            "directory; what it has written stays"
        )

    def end(self) -> None:
        """Stops, and leaves the directory to others."""
        self._over.set()
        self.join()
        with suppress(*store_errors()):  # left behind, it is one of a dead process
            if _is_ours(self._path, self._token):
                remove(self._path)


def _sign(token: str) -> bytes:
    """Who we are, and something that is different every time."""
    about = {"process": os.getpid(), "host": socket.gethostname(), "machine": _machine(), "born": _born(os.getpid())}
    return json.dumps(about | {"token": token, "sign": uuid4().hex}).encode()


def _about(sign: bytes | None) -> dict[str, object]:
    """What a sign says; {} if it is none, as it may be while it is written on a disk."""
    try:
        about = json.loads(sign or b"{}")
    except ValueError:
        return {}
    return about if isinstance(about, dict) else {}


def _is_ours(path: Path, token: str) -> bool:
    """Whether the holder is still the one that has `token`, and no later one has been made by who took it for dead."""
    return files(path.parent, _PATTERN)[-1:] == [path] and _about(read(path)).get("token") == token


def _take(directory: Path, token: str, beat: float, stale: float) -> Path:
    """The holder file with `token`, once it is the only one; RunLockedError if another process has the directory.

    Holders are numbered: who takes over makes the next one, which only one process can, and looks again before it believes.
    """
    while True:
        before = files(directory, _PATTERN)
        if before and not _is_dead(before[-1], beat, stale):
            continue  # it has just gone
        number = int(before[-1].name.rpartition("-")[2]) + 1 if before else 1
        own = directory / f".holder-{number:06d}"
        if not put_new(own, _sign(token)):
            raise _refusal(directory, read(own))
        others = [path for path in files(directory, _PATTERN) if path not in (*before, own)]
        if others:
            said = read(others[-1])
            remove(own)
            raise _refusal(directory, said)
        for path in before:
            remove(path)
        return own


def _is_dead(path: Path, beat: float, stale: float) -> bool:
    """Whether the process of a holder is dead; False if the holder is gone, RunLockedError if the process lives."""
    first = read(path)
    about = _about(first)
    if about.get("machine") and about["machine"] == _machine():
        if about.get("born") == _born(int(str(about["process"]))):
            raise _refusal(path.parent, first)
        return True
    end = time.monotonic() + stale
    while time.monotonic() < end:
        time.sleep(min(beat, stale / 4))
        now = read(path)
        if now is None:
            return False
        if now != first:
            raise _refusal(path.parent, now)
    return True


def _refusal(directory: Path, sign: bytes | None) -> RunLockedError:
    about = _about(sign)
    who = f"process {about['process']} on {about['host']}" if {"process", "host"} <= about.keys() else "unknown"
    return RunLockedError(
        f"{address(directory)}: another process is at work on this run directory ({who}); wait for it, end it, "
        "or choose another one"
    )


def _machine() -> str:
    """What tells this machine, since it was booted, and this container from others; "" where that can't be told."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("utf-8").strip()
        return f"{socket.gethostname()} {boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _born(process: int) -> str:
    """When a process of this machine began, in the machine's own count; "" if there is none, or it has ended."""
    try:
        state, *fields = Path(f"/proc/{process}/stat").read_text("utf-8").rpartition(") ")[2].split()
    except OSError:
        return ""
    return "" if state == "Z" else fields[18]
