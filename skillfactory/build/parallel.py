"""Units of work over processes: this one and spawned ones take the next unit until none is left."""

import queue
from collections.abc import Callable, Iterator
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
                dead = [child.exitcode for child in children if child.exitcode]
                if dead:
                    raise RuntimeError(f"a worker process died with exit code {dead[0]} (killed, or out of memory?)") from None
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
            results.put((None, error))
            return


def _result(message: tuple[Any, Exception | None]) -> Any:
    value, error = message
    if error is not None:
        raise error
    return value
