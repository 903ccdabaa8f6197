"""Making the index of a run: its rows, their texts and the text search, streamed from its tables into a file of SQLite."""

import json
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from skillfactory.progress import Progress
from skillfactory.view.reading import entries, parts, rows_in
from skillfactory.view.tables import ANSWERS, FACETS, Entry, Table

# `items` has narrow rows and `texts` wide ones, so that looking through the first never reads the second. A row's facets are
# one number: there are few different combinations of them, so a filter is a handful of ranges of an index, and a count a sum.
_SCHEMA = f"""
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE facets (f INTEGER PRIMARY KEY, sort TEXT, {", ".join(f'"{name}" TEXT' for name in FACETS)}, rows INTEGER);
CREATE TABLE asked (q INTEGER PRIMARY KEY, id TEXT UNIQUE);
CREATE TABLE items (n INTEGER PRIMARY KEY, f INTEGER, q INTEGER, id TEXT, parent TEXT, answer TEXT, tokens INTEGER, more TEXT);
CREATE TABLE texts (n INTEGER PRIMARY KEY, length INTEGER, packed BLOB);
CREATE TABLE uses (attempt TEXT, n INTEGER, PRIMARY KEY (attempt, n)) WITHOUT ROWID;
CREATE TABLE tally (sort TEXT, q INTEGER, id TEXT, rights INTEGER, total INTEGER, PRIMARY KEY (sort, q)) WITHOUT ROWID;
CREATE INDEX items_f ON items (f);
CREATE INDEX items_q ON items (q);
CREATE INDEX items_id ON items (id);
CREATE INDEX items_parent ON items (parent) WHERE parent <> '';
"""
# How many rows of a table answer each question, and how many of them are right: what two runs are compared by.
_TALLY = f"""
INSERT INTO tally
SELECT sort, q, asked.id, sum("check" = 'right'), count(*) FROM items JOIN facets USING (f) JOIN asked USING (q)
WHERE sort IN ({", ".join(f"'{table.value}'" for table in ANSWERS)}) GROUP BY sort, q;
CREATE UNIQUE INDEX tally_id ON tally (sort, id, rights, total);
"""
# Without places of the tokens it takes a tenth of the room; that they stand side by side is looked up in the text itself.
_GRAMS = "CREATE VIRTUAL TABLE grams USING fts5(x, tokenize='trigram case_sensitive 1', content='', detail=none)"
_MOST = 2_000  # combinations of facets, beyond which reasons are not told apart; no honest run has a tenth of them
_CUT = 200  # characters of a facet
_OTHER = "(other)"
_CHUNK = 500  # texts
_HELD = 4_096  # questions

Known = Callable[[str], tuple[str, str] | None]  # the task and level of a question that another run holds


def make(path: Path, run: Path, known: Known, meta: Mapping[str, str], progress: Progress, label: str) -> None:
    """Writes the index of the run at `run` to `path`. InputError names a file that can't be read."""
    files = parts(run)
    sizes = [rows_in(part) for _, part in files]
    connection = sqlite3.connect(path)
    try:
        connection.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -32000;" + _SCHEMA)
        writer = _Writer(connection, known)
        progress.begin(f"index {label}", "rows", sum(sizes))
        for table, part in files:
            for batch in entries(part):
                writer.add(batch)
                progress.advance(sum(entry.table is table for entry in batch))
        writer.close()
        searchable = _search(connection, progress, label)
        told = {**meta, "searchable": "yes" if searchable else ""}
        connection.executemany("INSERT INTO meta VALUES (?, ?)", told.items())
        connection.commit()
    finally:
        progress.end()
        connection.close()


def folded(text: str) -> str:
    """A text as it is searched: without upper and lower case, and without the NUL that would end it for SQLite."""
    return text.casefold().replace("\0", "\ufffd")


def packed(text: str) -> bytes:
    """A text as it is stored; lone surrogates, which UTF-8 doesn't have, stay what they are."""
    return zlib.compress(text.encode("utf-8", "surrogatepass"), 1)


def unpacked(data: bytes) -> str:
    """The text again."""
    return zlib.decompress(data).decode("utf-8", "surrogatepass")


class _Writer:
    """Rows of the index, a batch at a time."""

    def __init__(self, connection: sqlite3.Connection, known: Known) -> None:
        self._connection, self._known = connection, known
        self._numbers = {table: table.base for table in Table}
        self._facets: dict[tuple[str, ...], int] = {}  # the table and the facets → their number
        self._values: list[tuple[str, ...]] = []  # the same by number, from 1
        self._rows: list[int] = []  # how many rows have them
        self._asked: dict[str, int] = {}  # questions just seen → their number
        self._about: dict[str, tuple[str, str]] = {}  # the same → task, level

    def add(self, batch: Iterable[Entry]) -> None:
        """Stores entries in their order; a question that comes with several traces, once."""
        if len(self._asked) > _HELD:
            self._asked, self._about = {}, {}
        for entry in map(self._placed, batch):
            q, is_new = self._question(entry.question) if entry.question else (0, False)
            if entry.table is Table.QUESTION and not is_new and not entry.form:
                continue
            self._numbers[entry.table] += 1
            n = self._numbers[entry.table]
            answer = None if entry.answer is None else storable(entry.answer)
            more = json.dumps(entry.more, default=str) if entry.more else ""
            row = (n, self._facet(entry), q, storable(entry.id), storable(entry.parent), answer, entry.tokens, more)
            self._connection.execute("INSERT INTO items VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
            self._connection.execute("INSERT INTO texts VALUES (?, ?, ?)", (n, len(entry.text), packed(entry.text)))
            uses = ((storable(attempt), n) for attempt in entry.uses)
            self._connection.executemany("INSERT OR IGNORE INTO uses VALUES (?, ?)", uses)

    def close(self) -> None:
        """Stores what is known at the end: how many rows share their facets."""
        rows = [(f, *values, self._rows[f - 1]) for f, values in enumerate(self._values, 1)]
        self._connection.executemany(f"INSERT INTO facets VALUES ({', '.join('?' * (len(FACETS) + 3))})", rows)
        self._connection.executescript(_TALLY)
        self._connection.commit()

    def _placed(self, entry: Entry) -> Entry:
        """The entry with what other rows tell of it: its question, task and level, and of a reflection its attempt."""
        if entry.table is Table.REFLECTION:
            found = self._one("SELECT f, asked.id FROM items LEFT JOIN asked USING (q) WHERE items.id = ?", entry.parent)
            if found is None:
                return entry
            _, task, level, form, check, *_ = self._values[int(found[0]) - 1]
            return replace(entry, question=found[1] or "", task=task, level=level, form=form, check=check)
        question = self._subject(entry.id) if entry.table is Table.DROP else storable(entry.question)
        if entry.task or entry.level:
            if entry.table is Table.QUESTION:
                self._about[question] = entry.task, entry.level
            return replace(entry, question=question)
        task, level = self._topic(question)
        return replace(entry, question=question, task=task, level=level)

    def _subject(self, id: str) -> str:
        """The question that a drop with this id is about, "" if none is known."""
        for name in shorter(storable(id)):
            found = self._one("SELECT asked.id FROM items JOIN asked USING (q) WHERE items.id = ?", name)
            if found is not None or self._known(name) is not None:
                return name if found is None else found[0]
        return ""

    def _question(self, id: str) -> tuple[int, bool]:
        """The number of a question, and whether it is new."""
        if id in self._asked:
            return self._asked[id], False
        found = self._one("SELECT q FROM asked WHERE id = ?", id)
        if found is None:
            made = self._connection.execute("INSERT INTO asked (id) VALUES (?)", (id,)).lastrowid
        self._asked[id] = int(found[0]) if found is not None else made or 0
        return self._asked[id], found is None

    def _facet(self, entry: Entry) -> int:
        """The number of an entry's facets, which counts it."""
        told = [storable(getattr(entry, name)[:_CUT]) for name in FACETS]
        values = (entry.table.value, *told)
        if values not in self._facets and len(self._facets) >= _MOST:
            values = (
                entry.table.value,
                *(_OTHER if name == "reason" else value for name, value in zip(FACETS, told, strict=True)),
            )
        if values not in self._facets:
            self._values.append(values)
            self._rows.append(0)
        f = self._facets.setdefault(values, len(self._values))
        self._rows[f - 1] += 1
        return f

    def _topic(self, question: str) -> tuple[str, str]:
        """The task and level of a question, of this run or of one that it was made from."""
        if question not in self._about:
            sort = f"facets.sort = '{Table.QUESTION.value}'"
            found = self._one(f"SELECT task, level FROM items JOIN facets USING (f) WHERE id = ? AND {sort}", question)
            self._about[question] = (found[0], found[1]) if found else self._known(question) or ("", "")
        return self._about[question]

    def _one(self, query: str, value: str) -> tuple[str, ...] | None:
        row: tuple[str, ...] | None = self._connection.execute(query, (value,)).fetchone()
        return row


def shorter(id: str) -> Iterator[str]:
    """An id and what it begins with, part by part: a drop's id begins with what it is about."""
    while id:
        yield id
        id = id.rpartition("/")[0]


def storable(text: str) -> str:
    """A text that SQLite takes."""
    return text.encode("utf-8", "replace").decode() if not text.isascii() else text


def _search(connection: sqlite3.Connection, progress: Progress, label: str) -> bool:
    """Makes every text findable by any three characters of it; False if this SQLite can't."""
    try:
        connection.execute(_GRAMS)
    except sqlite3.OperationalError:
        return False
    total = connection.execute("SELECT count(*) FROM texts").fetchone()[0]
    progress.begin(f"index the texts of {label}", "texts", total)
    last = 0
    while True:
        found = connection.execute("SELECT n, packed FROM texts WHERE n > ? ORDER BY n LIMIT ?", (last, _CHUNK)).fetchall()
        if not found:
            return True
        rows = ((n, storable(folded(unpacked(data)))) for n, data in found)
        connection.executemany("INSERT INTO grams (rowid, x) VALUES (?, ?)", rows)
        last = found[-1][0]
        progress.advance(len(found))
