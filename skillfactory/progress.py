"""How far long work has come: what a stage calls, and two receivers of it, silent and with bars."""

import sys
from typing import Any, Protocol


class Progress(Protocol):
    """What a stage tells while it works."""

    def begin(self, label: str, unit: str, total: int | None = None) -> None:
        """A new piece of work starts, of `total` units if that is known; the one before it is over."""

    def advance(self, n: int = 1, note: str = "") -> None:
        """`n` more units are done; `note` says more, such as "1.2M tokens"."""

    def end(self) -> None:
        """The work is over, well or not."""


class Silent:
    """Says nothing."""

    def begin(self, label: str, unit: str, total: int | None = None) -> None: ...

    def advance(self, n: int = 1, note: str = "") -> None: ...

    def end(self) -> None: ...


class Bars:
    """A bar on stderr with the rate and the time left."""

    def __init__(self) -> None:
        self._bar: Any = None

    def begin(self, label: str, unit: str, total: int | None = None) -> None:
        from tqdm import tqdm

        self.end()
        self._bar = tqdm(
            desc=label, unit=f" {unit}", total=total, file=sys.stderr, mininterval=0.5, miniters=0, dynamic_ncols=True
        )

    def advance(self, n: int = 1, note: str = "") -> None:
        if self._bar is not None:
            if note:
                self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(n)

    def end(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
