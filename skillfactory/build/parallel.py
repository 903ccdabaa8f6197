"""Units of work over processes: this one and spawned ones take the next unit until none is left."""

import pickle
import queue
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any, TypeVar

R = TypeVar("R")


def each_unit(work: Callable[[int], R], units: int, workers: int) -> Iterator[R]:
    """The results of `work(0)` … `work(units - 1)`, in no fixed order; with more than one worker `work` must pickle.

    This process works too. An error in a worker is raised here; a worker that dies is an error as well.
    """
    workers = min(workers, units)
    if workers <= 1:
        yield from map(work, range(units))
        return
    context = get_context("spawn")  # a fork could inherit locks that Arrow's threads hold
    taken, results = context.Value("q", 0), context.Queue()
    children = [context.Process(target=_child, args=(work, units, taken, results), daemon=True) for _ in range(workers - 1)]
    with _deaf():  # Ctrl-C is this process's to answer
        for child in children:
            child.start()
    left = units
    try:
        while (unit := _next(taken, units)) is not None:
            yield work(unit)
            left -= 1
            while not results.empty():
                yield _result(results.get())
                left -= 1
        while left:
            try:
                yield _result(results.get(timeout=1))
                left -= 1
            except queue.Empty:
                if results.empty() and not any(child.is_alive() for child in children):
                    codes = ", ".join(str(child.exitcode) for child in children)
                    raise RuntimeError(f"worker processes died, exit codes {codes} (killed, or out of memory?)") from None
    finally:
        for child in children:
            if left:
                child.terminate()
            child.join()


def _next(taken: Any, units: int) -> int | None:
    with taken.get_lock():
        unit: int = taken.value
        taken.value += 1
    return unit if unit < units else None


def _child(work: Callable[[int], Any], units: int, taken: Any, results: Any) -> None:
    while (unit := _next(taken, units)) is not None:
        try:
            results.put((work(unit), None))
        except Exception as error:  # noqa: BLE001 - raised again in the parent process
            results.put((None, _portable(error)))
            return


def _portable(error: Exception) -> Exception:
    """`error`, or what it says if it can't be sent to another process."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 - anything may go wrong in pickling what others wrote
        return RuntimeError("".join(traceback.format_exception(error)))
    return error


@contextmanager
def _deaf() -> Iterator[None]:
    """Child processes started in here ignore Ctrl-C, from their first moment on."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _result(message: tuple[Any, Exception | None]) -> Any:
    value, error = message
    if error is not None:
        raise error
    return value
