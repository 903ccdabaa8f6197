"""Units of work and who does them: this process and a crew of spawned ones, or whatever else is a `Crew`."""

import importlib
import pickle
import queue
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any, Protocol, TypeVar

R = TypeVar("R")


class Crew(Protocol):
    """Whoever takes units until none is left."""

    def each(self, work: Callable[[int], R], units: int) -> Iterator[R]:
        """The results of `work(0)` … `work(units - 1)`, in any order; an error in one of them is raised here."""


class Processes:
    """Processes that help this one. They load `module` at once, while this one does the same."""

    def __init__(self, size: int, module: str) -> None:
        context = get_context("spawn")  # a fork could inherit locks that Arrow's threads hold
        self._children: list[Any] = []
        if size > 0:
            self._taken, self._results, self._orders = context.Value("q", 0), context.Queue(), context.SimpleQueue()
            about = (module, self._orders, self._taken, self._results)
            self._children = [context.Process(target=_child, args=about, daemon=True) for _ in range(size)]
        with _deaf():  # Ctrl-C is this process's to answer
            for child in self._children:
                child.start()

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, *error: object) -> None:
        for child in self._children:
            child.terminate()
        for child in self._children:
            child.join()

    def each(self, work: Callable[[int], R], units: int) -> Iterator[R]:
        """The results of `work(0)` … `work(units - 1)`, in no fixed order; with a crew `work` must pickle.

        This process works too. An error in another process is raised here; one that dies is an error as well.
        """
        if not self._children:
            yield from map(work, range(units))
            return
        self._taken.value = 0
        for _ in self._children:
            self._orders.put((work, units))
        busy = len(self._children)
        try:
            while (unit := _next(self._taken, units)) is not None:
                yield work(unit)
                while not self._results.empty():
                    found, busy = self._message(busy)
                    yield from found
            while busy:
                found, busy = self._message(busy)
                yield from found
        finally:
            self._taken.value = units  # what ends early ends for all
            while busy:
                _, busy = self._message(busy, raises=False)

    def _message(self, busy: int, raises: bool = True) -> tuple[list[Any], int]:
        """The next results, and how many of the crew are still at work."""
        try:
            result, error, done = self._results.get(timeout=1)
        except queue.Empty:
            dead = [str(child.exitcode) for child in self._children if not child.is_alive()]  # none ends by itself
            if not dead:
                return [], busy
            if raises:
                codes = ", ".join(dead)
                raise RuntimeError(f"worker processes died, exit codes {codes} (killed, or out of memory?)") from None
            return [], 0
        if error is not None and raises:
            raise error
        return result, busy - done


def _next(taken: Any, units: int) -> int | None:
    with taken.get_lock():
        unit: int = taken.value
        taken.value += 1
    return unit if unit < units else None


def _child(module: str, orders: Any, taken: Any, results: Any) -> None:
    importlib.import_module(module)
    while True:
        work, units = orders.get()
        while (unit := _next(taken, units)) is not None:
            try:
                results.put(([work(unit)], None, 0))
            except Exception as error:  # noqa: BLE001 - raised again in the parent process
                results.put(([], portable(error), 0))
                break
        results.put(([], None, 1))


def portable(error: Exception) -> Exception:
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
