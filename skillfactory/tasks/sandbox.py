"""Worker processes that can be killed, for code that may hang, crash or eat memory on a model's text.

    with Sandbox("package.module:setup", "an argument of setup", timeout=5.0) as box:
        outcome = box.call("some", "JSON values")

`setup(*args)` runs once in the worker and gives back the function that is called there. What crosses the border is JSON.
What a worker may do, and what protects us from it, is told in `docs/tasks.md`. POSIX only.
"""

import json
import os
import queue
import secrets
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import weakref
from dataclasses import dataclass
from functools import cache
from typing import Any

from skillfactory.errors import ConfigError, SkillFactoryError

_START = 120.0  # seconds a worker has to import its things, on a machine that may be busy
_WALL = 6.0  # wall seconds granted per second of the limit, which is processor time: waiting is bounded too, only later
_REPLY = 1 << 24  # bytes a reply may have
_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TZ")
_ALARMS = (-signal.SIGPROF, -signal.SIGALRM)


@dataclass(frozen=True, slots=True)
class Returned:
    """What the function gave back, after a trip through JSON."""

    value: Any


@dataclass(frozen=True, slots=True)
class Raised:
    """The exception that the function raised."""

    type: str
    message: str


@dataclass(frozen=True, slots=True)
class TimedOut:
    """The call used up its time and was killed."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Died:
    """The worker ended in the middle of the call."""

    reason: str


Outcome = Returned | Raised | TimedOut | Died


class _LostError(Exception):
    """The worker is dead or deaf; `alarm` says that its clock ended it, or ours did."""

    def __init__(self, reason: str, alarm: bool) -> None:
        super().__init__(reason)
        self.alarm = alarm


class Sandbox:
    """A pool of workers, started when first needed, for calls from any thread. Each serves one call at a time.

    `timeout` is in seconds of processor time, counted in the worker from when it takes up the call; a call that only waits is
    ended after six times as long. A worker that is lost is replaced at the next call. `memory` is in bytes of address space.
    `fresh` runs each call in a fork of the prepared worker: slower by some milliseconds, but no call can change what a later
    one sees. `trusted` code may write files and start processes.
    """

    def __init__(
        self, setup: str, *args: Any, workers: int = 1, timeout: float = 5.0, memory: int = 1 << 31, fresh: bool = False,
        trusted: bool = False,
    ) -> None:  # fmt: skip
        self.timeout = timeout
        self._job = {"setup": setup, "args": args, "memory": memory, "fresh": fresh, "trusted": trusted}
        self._slots: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        self._size = workers
        for _ in range(workers):
            self._slots.put(None)
        self._owner = os.getpid()
        self._live: set[_Worker] = set()
        self._finalizer = weakref.finalize(self, _end_all, self._live, self._owner)

    def call(self, *args: Any, timeout: float | None = None) -> Outcome:
        """The outcome of calling the function with `args`; waits while all workers are busy.

        ConfigError if the setup can't be run; `timeout` replaces the sandbox's for this call.
        """
        if os.getpid() != self._owner:
            raise SkillFactoryError("a sandbox can't be used in a fork of the process that made it; make one there")
        seconds = timeout or self.timeout
        slot = self._slots.get()
        worker: _Worker | None = None
        try:
            worker = slot or self._start()
            reply = worker.ask({"args": args, "seconds": seconds, "wall": seconds * _WALL}, seconds * _WALL + 5)
        except _LostError as gone:
            if worker is not None:
                self._live.discard(worker)
                worker = None
            return TimedOut(seconds) if gone.alarm else Died(str(gone))
        finally:
            self._slots.put(worker)
        return _outcome(reply, seconds)

    def _start(self) -> "_Worker":
        try:
            worker = _Worker(self._job)
        except _LostError as gone:
            raise ConfigError(f"the worker for {self._job['setup']} can't be started: {gone}") from gone
        self._live.add(worker)
        return worker

    def close(self) -> None:
        """Ends the workers once the calls under way are answered; a later call starts new ones."""
        for slot in [self._slots.get() for _ in range(self._size)]:
            if slot is not None:
                slot.end()
                self._live.discard(slot)
            self._slots.put(None)

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


@cache
def shared(setup: str, *args: str, **options: Any) -> Sandbox:
    """The sandbox of this process for these arguments: made at the first request, closed when the process ends."""
    return Sandbox(setup, *args, **options)


class _Worker:
    """One worker process, ready, at the other end of two pipes."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.home = tempfile.mkdtemp(prefix="skillfactory-worker-")
        path = [entry or os.getcwd() for entry in sys.path]  # noqa: PTH109  sys.path holds strings
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        environment |= {
            "PYTHONPATH": os.pathsep.join(path),
            "PYTHONHASHSEED": "0",  # some libraries iterate over sets of strings: the order would change from worker to worker
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "LC_ALL": "C.UTF-8",
            "HOME": self.home,
            "TMPDIR": self.home,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "skillfactory.tasks.worker"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            bufsize=0, cwd=self.home, env=environment, start_new_session=True,
        )  # fmt: skip
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.stdin, self.stdout = self.process.stdin.fileno(), self.process.stdout.fileno()
        os.set_blocking(self.stdin, False)
        self.buffer = bytearray()
        reply = self.ask(job, _START)
        if "raised" in reply:
            self.end()
            raise _LostError("{}: {}".format(*reply["raised"]), alarm=False)

    def ask(self, message: dict[str, Any], seconds: float) -> dict[str, Any]:
        """The reply to `message`. _LostError if there is none within `seconds`; the worker is ended then."""
        # The token is new each time, so that code which gets hold of the pipe can't answer a later question beforehand.
        token = secrets.token_hex(8)
        deadline = time.monotonic() + seconds
        try:
            self._write(json.dumps({**message, "token": token}).encode() + b"\n", deadline)
            while True:
                reply = json.loads(self._line(deadline))
                if isinstance(reply, dict) and reply.get("token") == token:
                    return reply
        except (OSError, ValueError, RecursionError) as error:
            raise self._lost(str(error), isinstance(error, TimeoutError)) from error

    def _write(self, data: bytes, deadline: float) -> None:
        view = memoryview(data)
        while view:
            self._wait(self.stdin, select.POLLOUT, deadline)
            view = view[os.write(self.stdin, view) :]

    def _line(self, deadline: float) -> bytes:
        """The next line that the worker wrote."""
        searched = 0
        while (end := self.buffer.find(b"\n", searched)) < 0:
            searched = len(self.buffer)
            if searched > _REPLY:
                raise OSError(f"the reply is longer than {_REPLY:,} bytes")
            self._wait(self.stdout, select.POLLIN, deadline)
            read = os.read(self.stdout, 1 << 16)
            if not read:
                raise BrokenPipeError("the worker ended")
            self.buffer += read
        line = bytes(self.buffer[:end])
        del self.buffer[: end + 1]
        return line

    def _wait(self, descriptor: int, event: int, deadline: float) -> None:
        poll = select.poll()
        poll.register(descriptor, event)
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise TimeoutError("no reply in time")

    def _lost(self, reason: str, alarm: bool) -> _LostError:
        """Ends the worker and says why it was lost."""
        code = self.end(0.0 if alarm else 1.0)
        if code in _ALARMS:
            return _LostError(reason, alarm=True)
        return _LostError(f"{reason} (exit code {code})", alarm)

    def end(self, grace: float = 1.0) -> int:
        """Closes the pipes, kills the process group if it is not gone within `grace` seconds, and gives back the exit code."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        limit = time.monotonic() + grace
        # WNOWAIT leaves the dead leader in place: its process group can't be taken by others before the survivors are killed
        while os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None and time.monotonic() < limit:
            time.sleep(0.005)
        os.killpg(self.process.pid, signal.SIGKILL)
        code = self.process.wait()
        shutil.rmtree(self.home, ignore_errors=True)
        return code


def _outcome(reply: dict[str, Any], seconds: float) -> Outcome:
    if "raised" in reply:
        kind, message = reply["raised"]
        return Raised(str(kind), str(message))
    if "ended" in reply:
        return TimedOut(seconds) if reply["ended"] in _ALARMS else Died(f"the call ended with exit code {reply['ended']}")
    return Returned(reply.get("value"))


def _end_all(live: set[_Worker], owner: int) -> None:
    """Ends what is left when the sandbox is collected or the process exits; a fork of the owner leaves them alone."""
    if os.getpid() == owner:
        for worker in live:
            worker.end()
