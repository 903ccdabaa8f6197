"""What grows line by line on a file system where nothing can be added to a file: a sequence of small files.

Each holds the lines since the one before. They are written every few seconds, by a thread of its own, so that neither an
engine that takes minutes nor a file system that takes seconds holds the other up.
"""

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

from skillfactory.places import put

EVERY = 5.0
"""Seconds that lines wait for company, and what a kill may cost. With a million requests at $5, a block that takes an hour
costs 0.4 cents; one that ends sooner than this costs nothing."""


class Pieces:
    """Lines on their way into files beside `path`, in whose place they stand: FOLDER/STEM-TOKEN.NUMBER.SUFFIX."""

    def __init__(self, path: Path, every: float = EVERY) -> None:
        self._path, self._every = path, every
        self._token = uuid4().hex[:8]  # a writer that is believed dead and isn't writes into files of its own
        self._held: list[bytes] = []
        self._written = 0
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=f"pieces of {path.name}")
        self._work: Future[None] | None = None  # while there are lines to wait for
        self._busy = False

    def add(self, line: bytes) -> None:
        """Takes a line, which stands in a file a few seconds later. Raises what kept earlier ones from it."""
        with self._lock:
            if self._work is not None and self._work.done():
                self._work.result()
            self._held.append(line)
            if not self._busy:
                self._busy = True  # before the thread begins, which works while it is
                self._work = self._pool.submit(self._gather)

    def close(self, keep: bool = True) -> None:
        """Writes what is still held, or with `keep` off forgets it. Raises what kept earlier lines from their files."""
        if not keep:
            with self._lock:
                self._held = []
        self._over.set()
        self._pool.shutdown()
        if self._work is not None and keep:
            self._work.result()
        self._write()

    def _gather(self) -> None:
        """Writes a file of what has come in some seconds, and another one if more has come meanwhile."""
        while self._busy:
            self._over.wait(self._every)
            self._write()
            with self._lock:
                self._busy = bool(self._held) and not self._over.is_set()

    def _write(self) -> None:
        with self._lock:
            lines, self._held = self._held, []
        if lines:
            self._written += 1
            name = f"{self._path.stem}-{self._token}.{self._written:06d}{self._path.suffix}"
            put(self._path.with_name(name), b"".join(lines))
