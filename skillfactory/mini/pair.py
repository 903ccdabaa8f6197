"""Two processes that train together: how they meet, add their gradients, and notice that one is gone."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from skillfactory.errors import EngineError, SkillFactoryError

C = TypeVar("C")
P = TypeVar("P")
T = TypeVar("T")
HOST, SIZE = "127.0.0.1", 2
_REMEDY = "the same command goes on from the last checkpoint, and --processes 1 does without a second process"


def together(work: Callable[[int, C, P], T], config: C, here: P, there: P) -> T:
    """What `work(0, config, here)` gives while another process does `work(1, config, there)`; EngineError if that is lost."""
    import torch

    store = _store(0)  # at a port that is free
    spawn = torch.multiprocessing.get_context("spawn")
    other = spawn.Process(target=_second, args=(work, config, there, store.port), daemon=True)
    other.start()
    try:
        while not store.check(["here"]):  # the group itself would wait for half an hour
            if other.exitcode is not None:
                raise EngineError(
                    f"the second process of the training ended at its start (exit code {other.exitcode}); {_REMEDY}"
                )
            time.sleep(0.05)
        with _group(store, 0):
            made = work(0, config, here)
        other.join(60)
        return made
    finally:
        other.kill()
        other.join()


def _second(work: Callable[[int, C, P], T], config: C, there: P, port: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process answers Ctrl-C
    store = _store(port)
    store.set("here", "1")
    try:
        with _group(store, 1):
            work(1, config, there)
    except SkillFactoryError:
        sys.exit(1)  # the first process has met the same, and tells it, or it is gone


def _store(port: int) -> Any:
    """The place where the two meet: that of the first process, which gives no port, and the way to it for the second."""
    import torch

    kind = torch.distributed.TCPStore  # type: ignore[attr-defined]  # public, and missing from torch's list of names
    return kind(HOST, port, SIZE, is_master=not port, wait_for_workers=False)


@contextmanager
def _group(store: Any, rank: int) -> Iterator[None]:
    import torch

    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=SIZE)
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()


def add_gradients(weights: Sequence[Any]) -> None:
    """Gives every weight the sum of both processes' gradients; EngineError if the other process is gone."""
    import torch

    flat = torch.cat([weight.grad.view(-1) for weight in weights])
    try:
        torch.distributed.all_reduce(flat)
    except RuntimeError as error:  # all that gloo raises
        raise EngineError(f"the two processes of the training lost each other ({error}); {_REMEDY}") from error
    for weight, part in zip(weights, flat.split([weight.numel() for weight in weights]), strict=True):
        weight.grad.copy_(part.view_as(weight))
