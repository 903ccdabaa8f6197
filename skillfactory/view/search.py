"""Which rows a filter finds, a page at a time, from the number of the last row seen: a deep page costs what the first does.

Numbers are looked up in ranges of an index; texts by three characters each and then read; and what takes long ends at a time
limit, with the place to go on from.
"""

import heapq
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from skillfactory.view.index import Index
from skillfactory.view.making import folded, storable
from skillfactory.view.tables import FACETS, Item, Table

SECONDS = 0.1  # that a search takes at most, before it gives what it has and a place to go on from
_GRAMS = 24  # of a searched text are looked up; the text itself decides
_WINDOW = 2_000  # rows that are looked up between two looks at the clock, at first


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a reader looks for: rows of a table with these facets, whose text holds `text` (upper or lower case)."""

    table: Table
    facets: Mapping[str, str]
    text: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """Some rows in the order of the table, and the places from which a search goes on: None where all was seen."""

    items: tuple[Item, ...]
    before: int | None  # the number that earlier rows stand before
    after: int | None  # the number that later rows stand after
    stopped: bool = False  # the time was over before the page was full


def matching(index: Index, wanted: Wanted) -> list[int]:
    """The numbers of the combinations of facets that fit."""
    return [
        f
        for f, (table, facets, _) in index.facets.items()
        if table is wanted.table and all(facets[name] == value for name, value in wanted.facets.items())
    ]


def count(index: Index, wanted: Wanted) -> int:
    """How many rows have the facets, whatever their text."""
    return sum(index.facets[f][2] for f in matching(index, wanted))


def choices(index: Index, wanted: Wanted) -> dict[str, dict[str, int]]:
    """The values that a reader can choose from and their rows: facet → value → rows that fit all other choices.

    Facets with one value are left out.
    """
    found: dict[str, dict[str, int]] = {}
    own = [(facets, rows) for table, facets, rows in index.facets.values() if table is wanted.table]
    for name in FACETS:
        others = {key: value for key, value in wanted.facets.items() if key != name}
        counts = Counter({facets[name]: 0 for facets, _ in own})
        for facets, rows in own:
            if all(facets[key] == value for key, value in others.items()):
                counts[facets[name]] += rows
        if len(counts) > 1:
            found[name] = dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))
    return found


def page(index: Index, wanted: Wanted, size: int, after: int = 0, before: int | None = None, seconds: float = SECONDS) -> Found:
    """Up to `size` rows after the row `after` of the table; or, going backwards, the last ones before the row `before`."""
    facets = matching(index, wanted)
    walk = _Walk(index, wanted.table, facets, before is not None, before if before is not None else after)
    until = time.monotonic() + seconds
    numbers = list(islice(_texts(walk, wanted.text, until) if wanted.text else walk.all(), size + 1))
    stopped = walk.stopped if len(numbers) <= size else None
    items = tuple(item for n in sorted(numbers[:size]) if (item := index.item(n)) is not None)
    ends = (items[0].number, items[-1].number) if items else None
    if before is None:
        onward = stopped if stopped is not None else ends[1] if ends and len(numbers) > size else None
        return Found(items, (ends[0] if ends else after + 1) if after > 0 else None, onward, stopped is not None)
    onward = stopped if stopped is not None else ends[0] if ends and len(numbers) > size else None
    seen = ends[1] if ends else before - 1
    return Found(items, onward, seen if before <= index.counts.get(wanted.table, 0) else None, stopped is not None)


class _Walk:
    """Rows of a table from a place on, forwards or backwards."""

    def __init__(self, index: Index, table: Table, facets: list[int], back: bool, start: int) -> None:
        self.index, self.facets, self.back, self.base = index, facets, back, table.base
        self.start, self.last = table.base + start, table.base + index.counts.get(table, 0)
        self.stopped: int | None = None

    def all(self) -> Iterator[int]:
        """The numbers of all rows with the facets, in order."""
        return heapq.merge(*map(self._with, self.facets), reverse=self.back)

    def _with(self, f: int) -> Iterator[int]:
        """The numbers of the rows with one combination of facets."""
        order, sign = ("DESC", "<") if self.back else ("ASC", ">")
        at, room = self.start, 32
        while True:
            rows = self.index.rows(f"SELECT n FROM items WHERE f = ? AND n {sign} ? ORDER BY n {order} LIMIT ?", (f, at, room))
            yield from (n for (n,) in rows)
            if len(rows) < room:
                return
            at, room = rows[-1][0], room * 2

    def windows(self, until: float) -> Iterator[tuple[int, int]]:
        """Ranges of numbers, both ends included, that grow; the walk is `stopped` when the time is over."""
        size, at = _WINDOW, self.start
        while (at > self.base + 1) if self.back else (at < self.last):
            low, high = (max(self.base + 1, at - size), at - 1) if self.back else (at + 1, min(at + size, self.last))
            yield low, high
            at, size = (low, size * 2) if self.back else (high, size * 2)
            if time.monotonic() > until:
                self.stopped = at - self.base
                return


def _texts(walk: _Walk, text: str, until: float) -> Iterator[int]:
    """The numbers of the rows whose text holds `text`."""
    needle = folded(text)
    for low, high in walk.windows(until):
        for n in _candidates(walk, storable(needle), low, high):
            if needle in folded(walk.index.text(n)):
                yield n
            if time.monotonic() > until:
                walk.stopped = n - walk.base
                return


def _candidates(walk: _Walk, needle: str, low: int, high: int) -> Iterator[int]:
    """The numbers of the rows with the facets in a range that may hold `needle`."""
    order = "DESC" if walk.back else "ASC"
    fitting = f"items.f IN ({', '.join(map(str, walk.facets))})"
    if walk.index.searchable and len(needle) >= 3:
        query = (
            "SELECT grams.rowid FROM grams CROSS JOIN items ON items.n = grams.rowid WHERE grams MATCH ? "
            f"AND grams.rowid BETWEEN ? AND ? AND {fitting} ORDER BY grams.rowid {order}"
        )
        rows = walk.index.rows(query, (_grams(needle), low, high))
    else:
        rows = walk.index.rows(f"SELECT n FROM items WHERE n BETWEEN ? AND ? AND {fitting} ORDER BY n {order}", (low, high))
    return iter([n for (n,) in rows])


def _grams(needle: str) -> str:
    """The query for texts with all three-character pieces of `needle`, or for a long one with some, spread over it."""
    pieces = list(dict.fromkeys(needle[i : i + 3] for i in range(len(needle) - 2)))
    step = -(-len(pieces) // _GRAMS)
    return " AND ".join('"' + piece.replace('"', '""') + '"' for piece in pieces[::step])
