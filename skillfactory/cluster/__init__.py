"""Stages past one machine: the same blocks and units, worked on by actors of a Ray cluster. `docs/cluster.md` is its manual."""

import logging
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from skillfactory.errors import ConfigError, require
from skillfactory.machines import Workers

_ANSWERS_WITHIN = 30.0  # seconds; a head that is well does within one or two, most of which is the import of Ray
_ASK = """
import sys
from ray._raylet import GcsClient
from ray.exceptions import RayError
try:
    GcsClient(address=sys.argv[1])
except RayError as error:
    print(error)
    sys.exit(1)
"""


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
        reach(machines.address)
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


def reach(address: str | None, patience: float = _ANSWERS_WITHIN) -> None:
    """OSError if no cluster answers at HOST:PORT within `patience` seconds: Ray itself would try for a quarter of an hour.

    Another process asks, as Ray's client can't be stopped while it waits.
    """
    host, colon, port = (address or "").rpartition(":")
    if not (address and colon and port.isdecimal()) or "/" in host:
        return
    socket.create_connection((host.strip("[]"), int(port)), timeout=patience).close()
    command = [sys.executable, "-c", _ASK, address]
    try:
        asked = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=patience, check=False)
        why = asked.stdout.decode(errors="replace").strip() or f"Ray's client ended with status {asked.returncode}"
    except subprocess.TimeoutExpired:
        asked, why = None, f"something listens there that doesn't answer as a cluster's head does, for {patience:g} s"
    if asked is None or asked.returncode:
        raise OSError(
            f"{why}; the address is the one that `ray start --head` prints, with port 6379 unless another was chosen: "
            "8265 is the dashboard's, 10001 is Ray Client's"
        )
