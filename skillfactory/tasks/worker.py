"""The inside of a sandbox: a process that imports what it needs, says that it is ready, then answers one call after another.

It runs as `python -m skillfactory.tasks.worker` and talks JSON lines over its standard streams, so nothing that it sends back
is ever unpickled or evaluated by us. The first line it reads describes the job; see `sandbox.py` for the other end.
"""

import contextlib
import importlib
import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

_REFUSED = frozenset(
    {
        *("os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "pty.spawn", "subprocess.Popen"),
        *("os.kill", "os.killpg", "signal.pthread_kill", "socket.bind", "socket.connect", "socket.getaddrinfo"),
        *(
            "os.chmod",
            "os.chown",
            "os.link",
            "os.mkdir",
            "os.remove",
            "os.rename",
            "os.symlink",
            "os.truncate",
            "shutil.rmtree",
        ),
        *("ctypes.dlopen", "ctypes.dlsym", "ctypes.addressof", "ctypes.string_at", "ctypes.cdata"),
    }
)
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def load(name: str) -> Any:
    """The object that "module:attribute" names."""
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


def main() -> None:
    """Serves calls until the standard input closes, which it does when our process ends, however it ends."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):  # what the code in here prints must not get between the replies
        os.dup2(null, stream)
    job = json.loads(requests.readline())
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _lower(resource.RLIMIT_AS, job["memory"])
    try:
        function = load(job["setup"])(*job["args"])
    except Exception as error:  # noqa: BLE001  the setup is foreign code; the other end raises what is told here
        _send(replies, {"token": job["token"], "raised": [type(error).__name__, str(error)[:2000]]})
        return
    if not job["trusted"]:
        _confine(forks=job["fresh"])
    _send(replies, {"token": job["token"], "value": None})
    serve = partial(_in_child, trusted=job["trusted"]) if job["fresh"] else _answer
    for line in requests:
        serve(function, json.loads(line), replies)
    with contextlib.suppress(OSError):  # the other end may be gone, and this directory is ours alone
        Path.cwd().rmdir()


def _answer(function: Callable[..., Any], request: dict[str, Any], replies: BinaryIO) -> None:
    """Calls `function` under two clocks whose alarms end the process, even inside C code: processor time and wall time."""
    for number in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, request["seconds"])
    signal.setitimer(signal.ITIMER_REAL, request["wall"])
    try:
        reply = {"value": function(*request["args"])}
        text = json.dumps(reply)
    except Exception as error:  # noqa: BLE001  foreign code on hostile text: what it raises is a result
        text = json.dumps({"raised": [type(error).__name__, str(error)[:2000]]})
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    _send(replies, {**json.loads(text), "token": request["token"]})


def _in_child(function: Callable[..., Any], request: dict[str, Any], replies: BinaryIO, trusted: bool) -> None:
    """Answers in a fork of this (single-threaded) process, so that nothing a call does outlives it."""
    child = os.fork()
    if child == 0:
        if not trusted:
            _lower(resource.RLIMIT_NPROC, 0)
            sys.addaudithook(_guard)
        _answer(function, request, replies)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    # Told in any case: a child may end without a word. If it did answer, this comes second and is passed over.
    _send(replies, {"ended": os.waitstatus_to_exitcode(status), "token": request["token"]})


def _confine(forks: bool) -> None:
    """Takes from this process what scoring does not need: files to write, and (unless it must fork) processes to start."""
    _lower(resource.RLIMIT_FSIZE, 0)
    if not forks:
        _lower(resource.RLIMIT_NPROC, 0)
        sys.addaudithook(_guard)


def _guard(event: str, args: tuple[Any, ...]) -> None:
    """Refuses to start programs, reach the network, and write, move or delete files. An audit hook can't be taken off again."""
    if event in _REFUSED or (event == "open" and isinstance(args[2], int) and args[2] & _WRITING):
        raise PermissionError(f"{event} is refused in a scoring worker")


def _lower(limit: int, value: int) -> None:
    _, hard = resource.getrlimit(limit)
    if hard == resource.RLIM_INFINITY or value < hard:
        resource.setrlimit(limit, (value, value))


def _send(replies: BinaryIO, reply: dict[str, Any]) -> None:
    replies.write(json.dumps(reply).encode() + b"\n")
    replies.flush()


if __name__ == "__main__":
    main()
