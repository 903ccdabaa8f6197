"""Stages past one machine: the same blocks and units, worked on by actors of a Ray cluster. `docs/cluster.md` is its manual."""

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from skillfactory.errors import ConfigError, require
from skillfactory.machines import Workers

_ANSWERS_WITHIN = 20.0  # seconds


@contextmanager
def connected(machines: Workers) -> Iterator[None]:
    """Holds a connection to the cluster that `machines` names, or one begun here, which ends with it.

    A connection that stands already is used and left alone. ConfigError if no cluster answers at the address.
    """
    ray = require("ray", "ray")
    if ray.is_initialized():
        yield
        return
    try:
        _reach(machines.address)
        if machines.address is None:  # "local": without it, Ray would join a cluster that it finds here
            ray.init("local", log_to_driver=False, include_dashboard=False, logging_level=logging.ERROR)
        else:
            ray.init(machines.address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError, ray.exceptions.AuthenticationError) as error:
        raise ConfigError(
            f"no Ray cluster answers at '{machines.address}': {error}; begin one with `ray start --head`, or give "
            "the token that it asks for, RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def deaths() -> tuple[type[Exception], ...]:
    """What Ray raises in place of a result whose worker was lost."""
    known = require("ray", "ray").exceptions
    return (
        known.RayActorError,
        known.NodeDiedError,
        known.WorkerCrashedError,
        known.ObjectLostError,
        known.OutOfMemoryError,
    )


def _reach(address: str | None) -> None:
    """OSError if nobody listens at HOST:PORT: Ray itself would try for a quarter of an hour."""
    host, colon, port = (address or "").rpartition(":")
    if colon and port.isdecimal() and "/" not in host:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWERS_WITHIN).close()
