"""The index of a run: opened where it is current, made where it isn't, and asked for rows, texts and counts."""

import json
import os
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from skillfactory.errors import InputError
from skillfactory.progress import Progress
from skillfactory.seeds import digest
from skillfactory.view.making import Known, make, shorter, storable, unpacked
from skillfactory.view.reading import parts
from skillfactory.view.tables import FACETS, Item, Table

FORMAT = "2"  # of the index; another one is made anew
_UNUSED = 30 * 24 * 3600  # seconds after which an index that nobody opened is deleted


def cache_folder() -> Path:
    """Where indexes are kept: the user's cache folder, or a temporary one where that can't be written."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "skillfactory" / "view"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError:
        return Path(tempfile.mkdtemp(prefix="skillfactory-view-"))
    return folder if os.access(folder, os.W_OK) else Path(tempfile.mkdtemp(prefix="skillfactory-view-"))


def stamp(run: Path, known: str = "") -> str:
    """What changes when the run's tables do: a hash of their files' names, sizes and times, and of what else is `known`."""
    about = [(part.relative_to(run).as_posix(), found.st_size, found.st_mtime_ns) for part, found in _files(run)]
    return digest(json.dumps([FORMAT, known, about]))


def _files(run: Path) -> Iterator[tuple[Path, os.stat_result]]:
    for _, part in parts(run):
        yield part, part.stat()


def remove_unused(cache: Path) -> None:
    """Deletes the indexes that nobody has opened for a month."""
    for path in cache.glob("*.sqlite*"):
        try:
            if time.time() - path.stat().st_mtime > _UNUSED:
                path.unlink()
        except OSError:
            continue  # another process was quicker


class Index:
    """A run's index, for reading. It is a snapshot: what is written to the run later shows when it is opened anew."""

    def __init__(self, path: Path) -> None:
        self._address = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
        self._connection = sqlite3.connect(self._address, uri=True, check_same_thread=False)
        self.meta: Mapping[str, str] = dict(self.rows("SELECT name, value FROM meta"))
        columns = ", ".join(f'"{name}"' for name in FACETS)
        found = self.rows(f"SELECT f, sort, rows, {columns} FROM facets")
        self.facets = {f: (Table(sort), dict(zip(FACETS, values, strict=True)), count) for f, sort, count, *values in found}
        counts = Counter[Table]()
        for table, _, count in self.facets.values():
            counts[table] += count
        self.counts: Mapping[Table, int] = {table: counts[table] for table in Table if counts[table]}

    @classmethod
    def open(cls, run: Path, cache: Path, known: Known, progress: Progress, about: tuple[str, str]) -> "Index":
        """The index of the run in `cache`, made if it isn't there or the run has changed.

        `about`: what the progress calls the run, and a stamp of the runs that `known` looks into.
        """
        path = cache / f"{digest(str(run.resolve()))}.sqlite"
        label, depends = about
        current = stamp(run, depends)
        meta = {"stamp": current, "files": stamp(run), "run": storable(str(run))}
        try:
            index = cls(path)
            if index.meta.get("stamp") == current:
                os.utime(path)
                return index
            index.close()
        except sqlite3.DatabaseError:
            pass  # none there, or what a killed process on a full disk left: it is made anew
        draft = path.with_name(f"{path.name}.{os.getpid()}")
        try:
            make(draft, run, known, meta, progress, label)
            draft.replace(path)
        except sqlite3.OperationalError as error:  # no room, or no right to write
            raise InputError(f"{draft}: the index can't be written ({error}); choose another folder with --cache") from error
        finally:
            if draft.is_file():
                draft.unlink()
        return cls(path)

    def close(self) -> None:
        """Lets go of the file."""
        self._connection.close()

    def rows(self, query: str, values: Sequence[str | int] = ()) -> list[tuple[Any, ...]]:
        """The rows that a query finds."""
        return self._connection.execute(query, values).fetchall()

    @contextmanager
    def beside(self, other: "Index") -> Iterator[None]:
        """Within it, queries find the tables of another index under the name `other`."""
        self._connection.execute("ATTACH ? AS other", (other._address,))
        try:
            yield
        finally:
            self._connection.execute("DETACH other")

    @property
    def searchable(self) -> bool:
        """Whether texts are found by three characters of them; else they are looked through."""
        return bool(self.meta.get("searchable"))

    def item(self, n: int) -> Item | None:
        """Row `n` of the index."""
        found = self.rows(
            "SELECT f, asked.id, items.id, answer, tokens, parent, more FROM items LEFT JOIN asked USING (q) WHERE n = ?", (n,)
        )
        if not found:
            return None
        f, question, id, answer, tokens, parent, more = found[0]
        table, facets, _ = self.facets[f]
        told = json.loads(more) if more else {}
        return Item(table, n - table.base, id, question or "", facets, answer, tokens, parent, told)

    def text(self, n: int) -> str:
        """The text of row `n`."""
        return unpacked(self.rows("SELECT packed FROM texts WHERE n = ?", (n,))[0][0])

    def length(self, n: int) -> int:
        """How many characters the text of row `n` has."""
        return int(self.rows("SELECT length FROM texts WHERE n = ?", (n,))[0][0])

    def found(self, id: str, table: Table | None = None) -> Item | None:
        """The first row with this id, in a table if one is named."""
        for (n,) in self.rows("SELECT n FROM items WHERE id = ? ORDER BY n LIMIT 20", (id,)):
            item = self.item(n)
            if item is not None and table in (None, item.table):
                return item
        return None

    def subject(self, id: str) -> Item | None:
        """What a drop with this id is about."""
        return next((item for name in shorter(id) if (item := self.found(name)) and item.table is not Table.DROP), None)

    def of_question(self, question: str, table: Table, most: int) -> list[Item]:
        """The first `most` rows of a table that belong to a question."""
        query = "SELECT n FROM items WHERE q = (SELECT q FROM asked WHERE id = ?) AND n BETWEEN ? AND ? ORDER BY n LIMIT ?"
        return self._items(query, (question, table.base, _end(table), most))

    def place(self, question: str) -> int | None:
        """The number of a question, None if no row belongs to it. Questions are numbered from 1 as they come."""
        found = self.rows("SELECT q FROM asked WHERE id = ?", (question,))
        return int(found[0][0]) if found else None

    def places(self) -> int:
        """How many questions are numbered."""
        return int(self.rows("SELECT coalesce(max(q), 0) FROM asked")[0][0])

    def checks(self, question: str, table: Table) -> Counter[str]:
        """How often each check was found among the rows of a table that belong to a question."""
        query = "SELECT f, count(*) FROM items WHERE q = (SELECT q FROM asked WHERE id = ?) AND n BETWEEN ? AND ? GROUP BY f"
        found = Counter[str]()
        for f, count in self.rows(query, (question, table.base, _end(table))):
            found[self.facets[f][1]["check"]] += count
        return found

    def reflections(self, attempt: str, most: int) -> list[Item]:
        """The first reflections on an attempt."""
        return self._items("SELECT n FROM items WHERE parent = ? AND parent <> '' ORDER BY n LIMIT ?", (attempt, most))

    def using(self, attempt: str, most: int) -> list[Item]:
        """The first traces that an attempt is part of."""
        return self._items("SELECT n FROM uses WHERE attempt = ? ORDER BY n LIMIT ?", (attempt, most))

    def users(self, attempt: str) -> int:
        """How many traces an attempt is part of."""
        return int(self.rows("SELECT count(*) FROM uses WHERE attempt = ?", (attempt,))[0][0])

    def topic(self, question: str) -> tuple[str, str] | None:
        """The task and level of a question that this run holds."""
        item = self.found(question, Table.QUESTION)
        return None if item is None else (item.facets["task"], item.facets["level"])

    def _items(self, query: str, values: Sequence[str | int]) -> list[Item]:
        return [item for (n,) in self.rows(query, values) if (item := self.item(n)) is not None]


def _end(table: Table) -> int:
    """A number beyond those of all rows of a table."""
    return table.base + Table.QUESTION.base
