"""The sandbox: whatever the code in a worker does, our process gets an outcome, and no process is left behind."""

import faulthandler
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from skillfactory.errors import ConfigError, SkillFactoryError
from skillfactory.tasks.sandbox import Died, Raised, Returned, Sandbox, TimedOut

HERE = "tests.test_sandbox" if __name__.startswith("tests.") else "test_sandbox"
SECRET = "SKILLFACTORY_TEST_SECRET"
seen: list[str] = []  # in a worker: what calls left behind


def setup(*args: str) -> Callable[..., Any]:
    """What the workers of these tests run: a function that does as it is told."""
    return act


def broken(reason: str) -> Callable[..., Any]:
    raise RuntimeError(reason)


def act(what: str, argument: Any = None) -> Any:
    actions: dict[str, Callable[[Any], Any]] = {
        "echo": lambda value: value,
        "pid": lambda _: os.getpid(),
        "raise": lambda text: broken(text),
        "exit": lambda code: os._exit(code),
        "crash": lambda _: faulthandler._sigsegv(),  # type: ignore[attr-defined]
        "loop in C": lambda _: pow(7, 7**9, 10**4000 + 1) and 9 ** (9**9),
        "sleep": time.sleep,
        "allocate": lambda size: len(bytearray(size)),
        "print": lambda text: (print(text, flush=True), os.write(1, b'{"value": "forged"}\n'))[0],
        "shell": os.system,
        "write": lambda path: Path(path).write_text("x"),
        "delete": lambda path: Path(path).unlink(),
        "environment": lambda _: dict(os.environ),
        "directory": lambda _: str(Path.cwd()),
        "remember": remember,
        "unserialisable": lambda _: object(),
        "spawn": lambda _: subprocess.Popen(["sleep", "60"]).pid,
        "pipes": lambda _: forge(),
    }
    return actions[what](argument)


def remember(word: str) -> list[str]:
    seen.append(word)
    return list(seen)


def forge() -> str:
    """Writes replies of its own into every pipe it finds open."""
    for descriptor in range(3, 20):
        try:
            os.write(descriptor, b'{"value": "forged", "token": "guess"}\nnot json either\n')
        except OSError:
            continue
    return "done"


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    with Sandbox(f"{HERE}:setup", timeout=0.3, memory=1 << 30) as sandbox:
        yield sandbox


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def gone_within(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not alive(pid)


def test_values_come_back_as_they_were(box: Sandbox) -> None:
    for value in (None, "ü\n\x00 {", [1, {"a": 2.5}], "x" * 1_000_000):
        assert box.call("echo", value) == Returned(value)


def test_an_exception_is_a_result_and_the_worker_goes_on(box: Sandbox) -> None:
    before = box.call("pid")
    assert box.call("raise", "no such luck") == Raised("RuntimeError", "no such luck")
    outcome = box.call("unserialisable")
    assert isinstance(outcome, Raised)
    assert outcome.type == "TypeError"
    assert box.call("pid") == before


def test_a_loop_in_c_code_is_killed_on_time(box: Sandbox) -> None:
    started = time.monotonic()
    assert box.call("loop in C") == TimedOut(0.3)
    assert time.monotonic() - started < 10
    assert box.call("echo", 1) == Returned(1)


def test_a_call_that_only_waits_is_killed_too(box: Sandbox) -> None:
    assert box.call("sleep", 60, timeout=0.05) == TimedOut(0.05)


@pytest.mark.parametrize(("what", "argument"), [("exit", 0), ("exit", 3), ("crash", None)])
def test_a_worker_that_dies_is_reported_and_replaced(box: Sandbox, what: str, argument: Any) -> None:
    before = box.call("pid")
    assert isinstance(box.call(what, argument), Died)
    after = box.call("pid")
    assert isinstance(after, Returned)
    assert after != before


def test_memory_is_capped(box: Sandbox) -> None:
    assert box.call("allocate", 3 << 30) == Raised("MemoryError", "")
    assert box.call("allocate", 1000) == Returned(1000)


def test_what_a_worker_prints_is_not_taken_for_a_reply(box: Sandbox) -> None:
    assert box.call("print", '{"value": "forged"}') == Returned(None)
    assert box.call("echo", "true") == Returned("true")


def test_a_reply_forged_in_advance_is_not_believed() -> None:
    with Sandbox(f"{HERE}:setup", timeout=1.0) as sandbox:
        sandbox.call("pipes")
        assert sandbox.call("echo", "true") != Returned("forged")
        assert sandbox.call("echo", "true") == Returned("true")


def test_foreign_code_starts_no_program_and_changes_no_file(box: Sandbox, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("intact")
    for what, argument in [("shell", f"rm {victim}"), ("write", str(victim)), ("delete", str(victim)), ("spawn", None)]:
        outcome = box.call(what, argument)
        assert isinstance(outcome, Raised), what
        assert outcome.type == "PermissionError", what
    assert victim.read_text() == "intact"


def test_a_worker_sees_no_secrets_and_works_in_an_empty_directory(box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECRET, "hunter2")
    with Sandbox(f"{HERE}:setup") as sandbox:
        environment, directory = sandbox.call("environment"), sandbox.call("directory")
    assert isinstance(environment, Returned)
    assert isinstance(directory, Returned)
    assert SECRET not in environment.value
    assert environment.value["HOME"] == directory.value != str(Path.cwd())
    assert not Path(directory.value).exists()


def test_trusted_code_may_write(tmp_path: Path) -> None:
    with Sandbox(f"{HERE}:setup", trusted=True) as sandbox:
        assert sandbox.call("write", str(tmp_path / "new")) == Returned(1)


def test_fresh_calls_leave_nothing_behind_and_time_out_without_a_restart() -> None:
    with Sandbox(f"{HERE}:setup", timeout=0.2, fresh=True) as sandbox:
        assert sandbox.call("remember", "a") == Returned(["a"])
        assert sandbox.call("remember", "b") == Returned(["b"])
        (worker,) = [process.pid for process in psutil.Process().children() if alive(process.pid)][-1:]
        assert sandbox.call("loop in C") == TimedOut(0.2)
        assert isinstance(sandbox.call("exit", 4), Died)
        assert isinstance(sandbox.call("exit", 0), Died)
        outcome = sandbox.call("shell", "true")
        assert isinstance(outcome, Raised)
        assert outcome.type == "PermissionError"
        assert alive(worker)
        assert sandbox.call("echo", 1) == Returned(1)


def test_a_pool_serves_threads_at_the_same_time_and_never_mixes_their_replies() -> None:
    results: dict[int, list[object]] = {}
    with Sandbox(f"{HERE}:setup", workers=2) as sandbox:

        def work(name: int) -> None:
            results[name] = [sandbox.call("echo", f"{name}.{i}") for i in range(200)]

        threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results == {name: [Returned(f"{name}.{i}") for i in range(200)] for name in range(4)}


def test_closing_ends_the_processes_and_a_later_call_starts_new_ones() -> None:
    sandbox = Sandbox(f"{HERE}:setup")
    first = sandbox.call("pid")
    assert isinstance(first, Returned)
    sandbox.close()
    assert not alive(first.value)
    second = sandbox.call("pid")
    assert isinstance(second, Returned)
    assert second != first
    sandbox.close()


@pytest.mark.parametrize("busy", ["idle", "computing", "waiting"])
def test_no_worker_outlives_our_process_even_if_that_is_killed(busy: str) -> None:
    calls = {"idle": "", "computing": "box.call('loop in C')", "waiting": "box.call('sleep', 60)"}
    code = (
        "import sys; from skillfactory.tasks.sandbox import Sandbox\n"
        f"box = Sandbox('{HERE}:setup', timeout=0.2)\n"
        f"print(box.call('pid').value, box.call('directory').value, flush=True)\n{calls[busy]}\nimport time; time.sleep(60)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)}
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
    assert parent.stdout is not None
    worker, directory = parent.stdout.readline().split()
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert gone_within(int(worker), 5)
    assert busy != "idle" or not Path(directory).exists()  # a worker killed by its clock can't tidy up
    shutil.rmtree(directory, ignore_errors=True)


def test_a_setup_that_fails_says_why() -> None:
    with pytest.raises(ConfigError, match=rf"{HERE}:broken can't be started: RuntimeError: no licence"):
        Sandbox(f"{HERE}:broken", "no licence").call()
    with pytest.raises(ConfigError, match="No module named 'no_such_module'"):
        Sandbox("no_such_module:setup").call()


def test_a_fork_is_told_to_make_its_own(box: Sandbox) -> None:
    box.call("echo", 1)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            box.call("echo", 1)
        except SkillFactoryError:
            code = 42
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42
    assert box.call("echo", 2) == Returned(2)


def test_the_end_of_the_main_program_ends_the_worker() -> None:
    code = f"from skillfactory.tasks.sandbox import Sandbox\nprint(Sandbox('{HERE}:setup').call('pid').value)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)}
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, env=environment)
    assert done.stderr == ""
    assert gone_within(int(done.stdout), 2)
