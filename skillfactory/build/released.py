"""Released raw data, streamed question by question: both published schemas, list or scalar columns, any variants.

One row holds one attempt with its reflections (method section 2, Published raw data). A row that can't be used becomes a drop
with its reason; a missing column is an error that names the columns found.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from skillfactory.build.columns import Strings, decoded, every, flags, labels
from skillfactory.errors import InputError
from skillfactory.layouts import Fit
from skillfactory.markup import final_answer, verdict
from skillfactory.patterns import Want
from skillfactory.places import address, is_remote, opened, parquet
from skillfactory.records import Attempt, Check, Drop, Reflection, Stop, Verdict
from skillfactory.seeds import digest

_RESPONSES = ("model_responses__mutated_prompts", "model_responses__example_annotation")
_REFLECTIONS = "model_responses__mutated_prompts_reflection"
_VARIANTS = ("prompt_variant", "prompt_type")
BATCH_BYTES = 4 << 20  # of text read at a time
WHERE, FLAW = "_where", "_flaw"  # columns of regrouped rows: where a row stood in the input, and what is wrong with it


@dataclass(frozen=True, slots=True)
class Columns:
    """The names of the columns that are read; `answer`, `variant` and `reflection` may be absent ("")."""

    question: str = "question"
    answer: str = "answer"
    variant: str = ""
    response: str = ""
    correct: str = ""
    reflection: str = _REFLECTIONS

    @classmethod
    def find(cls, names: Sequence[str], wanted: "Wanted", where: str) -> "Columns":
        """The columns of a file with the column `names`: those given by role, else those of the published schemas."""
        given = wanted.columns
        known = [field.name for field in fields(cls)]
        for role in given:
            if role not in known:
                raise InputError(f"unknown column role '{role}' (known: {', '.join(known)})")
        response = given.get("response") or next((name for name in _RESPONSES if name in names), _RESPONSES[0])
        found = cls(
            question=given.get("question", "question"),
            answer=given.get("answer", "answer" if "answer" in names else ""),
            variant=given.get("variant") or next((name for name in _VARIANTS if name in names), ""),
            response=response,
            correct=given.get("correct", f"{response}__eval_is_correct"),
            reflection=given.get("reflection", _REFLECTIONS if wanted.reflected or _REFLECTIONS in names else ""),
        )
        missing = [name for name in found.names() if name not in names]
        if missing:
            raise InputError(
                f"{where}: no column '{missing[0]}'; the file has: {', '.join(names)}. "
                "Name yours with --columns ROLE=NAME (roles: " + ", ".join(known) + ")"
            )
        return found

    def names(self) -> list[str]:
        """The columns to read."""
        return [name for name in (getattr(self, field.name) for field in fields(self)) if name]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is read of raw data."""

    columns: Mapping[str, str] = field(default_factory=dict)  # role → name, where it isn't a published one
    variants: frozenset[str] = frozenset()  # those attempts alone; all if empty
    reflected: bool = False  # whether a layout shows reflections, so that their column must be there


class Batch:
    """A batch of rows with its columns made uniform."""

    def __init__(self, batch: pa.RecordBatch, columns: Columns, where: str, first: int) -> None:
        def column(name: str) -> pa.Array:
            return batch.column(batch.schema.get_field_index(name))

        def label(name: str) -> pa.Array:
            return labels(column(name), f"{where}, column '{name}'")

        self.where, self.first = where, first  # the file, and the number of the first row in it
        self.origins = column(WHERE).to_pylist() if WHERE in batch.schema.names else None
        recorded = column(FLAW).to_pylist() if FLAW in batch.schema.names else []
        self.rows = batch.num_rows
        self.question = label(columns.question)
        self.answer = label(columns.answer) if columns.answer else pa.nulls(self.rows, pa.string())
        self.variant = every(label(columns.variant)) if columns.variant else ["unknown"] * self.rows
        self.response = Strings(column(columns.response), f"{where}, column '{columns.response}'")
        self.right = flags(column(columns.correct), f"{where}, column '{columns.correct}'")
        self.reflection = (
            Strings(column(columns.reflection), f"{where}, column '{columns.reflection}'") if columns.reflection else None
        )
        self.flaws = self._flawed(recorded)

    def runs(self) -> Iterator[tuple[int, int]]:
        """Stretches of rows with one question and one gold answer."""
        ends = {self.rows}
        for column in (self.question, self.answer):
            ends.update(pc.run_end_encode(column).run_ends.to_pylist())
        start = 0
        for end in sorted(ends):
            if end > start:
                yield start, end
                start = end

    def origin(self, row: int) -> str:
        """The file that a row came from and its number there, from 0."""
        return str(self.origins[row]) if self.origins else f"{self.where}:{self.first + row}"

    def _flawed(self, recorded: list[str | None]) -> dict[int, str]:
        """The rows that can't be used, with the reason; of several reasons the one that comes last here."""
        flaws = {row: "no_correctness" for row, right in enumerate(self.right) if right is None}
        flaws |= dict.fromkeys(self.response.blank(), "empty_response")
        counts = self.response.lengths
        reasons = {-1: "null_response", 0: "empty_response"}
        flaws |= {row: reasons.get(count, "several_responses") for row, count in enumerate(counts) if count != 1}
        flaws |= {row: "no_variant" for row, variant in enumerate(self.variant) if variant is None}
        blank = pc.equal(self.question, "").fill_null(True)
        flaws |= {int(row): "no_question" for row in np.flatnonzero(blank)}
        return flaws | {row: reason for row, reason in enumerate(recorded) if reason}


Key = tuple[str | None, str | None]


class RawPool:
    """The attempts of one question; texts are read from the batches as they are asked for."""

    def __init__(self, key: Key, rows: list[tuple[Batch, int]]) -> None:
        self.prompt, self.gold = key[0] or "", key[1]
        self.question_id = question_id(key)
        counts: defaultdict[str, int] = defaultdict(int)
        self.variants = [str(batch.variant[row]) for batch, row in rows]
        self.samples = []
        for name in self.variants:
            self.samples.append(counts[name])
            counts[name] += 1
        self._rows = rows
        self._right = [batch.right[row] for batch, row in rows]
        self._usable: dict[tuple[int, bool], bool] = {}
        self._attempts: dict[int, Attempt] = {}
        self._reflections: dict[int, Reflection | None] = {}

    def fits(self, i: int, want: Want, reflected: bool) -> Fit:
        if want is not Want.ANY and self._right[i] is not (want is Want.RIGHT):
            return Fit.NO
        usable = self._usable.get((i, reflected))
        if usable is None:
            usable = self.attempt(i).answer is not None and (not reflected or self.reflection(i) is not None)
            self._usable[i, reflected] = usable
        return Fit.YES if usable else Fit.NO

    def text(self, i: int) -> str:
        return self.attempt(i).text

    def attempt(self, i: int) -> Attempt:
        """Attempt `i`."""
        found = self._attempts.get(i)
        if found is None:
            batch, row = self._rows[i]
            text = (batch.response.text(row) or "").strip()
            answer, reason = final_answer(text)
            check = Check.MISSING if answer is None else Check.RIGHT if self._right[i] else Check.WRONG
            variant, sample = self.variants[i], self.samples[i]
            attempt_id = f"{self.question_id}/{variant}/{sample}"
            found = Attempt(attempt_id, self.question_id, variant, sample, text, answer, check, reason, Stop.END)
            self._attempts[i] = found
        return found

    def reflection(self, i: int) -> Reflection | None:
        """The first valid reflection on attempt `i`: one whose verdict is the truth."""
        if i not in self._reflections:
            self._reflections[i] = self._valid_reflection(i)
        return self._reflections[i]

    def _valid_reflection(self, i: int) -> Reflection | None:
        batch, row = self._rows[i]
        wanted = Verdict.CORRECT if self._right[i] else Verdict.INCORRECT
        column = batch.reflection
        for k in range(column.count(row) if column else 0):
            text = column.text(row, k) if column else None
            if text and verdict(text) is wanted:
                attempt_id = self.attempt(i).id
                return Reflection(f"{attempt_id}/r{k}", attempt_id, k, text, wanted, Stop.END)
        return None


def question_id(key: Key) -> str:
    """The id of a question known by its text and its gold answer."""
    return "q" + digest(key[0] or "", "\0" if key[1] is None else key[1])


@dataclass(frozen=True, slots=True)
class RowGroup:
    """A row group of a Parquet file of the input, which is one sequence of row groups over all files."""

    path: Path
    index: int
    rows: int
    size: int  # bytes, uncompressed


def row_groups(paths: Sequence[Path], wanted: Wanted) -> list[RowGroup]:
    """The row groups of Parquet files in the order of the files; InputError if one lacks a column."""
    groups = []
    for path in paths:
        try:
            with parquet(path) as file:
                names, meta = file.schema_arrow.names, file.metadata
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError(f"{address(path)}: not a readable Parquet file ({error})") from error
        Columns.find(names, wanted, address(path))
        found = (meta.row_group(k) for k in range(meta.num_row_groups))
        groups += [RowGroup(path, k, group.num_rows, group.total_byte_size) for k, group in enumerate(found) if group.num_rows]
    return groups


class RawReader:
    """Reads the questions of a stretch of row groups."""

    def __init__(self, groups: Sequence[RowGroup], wanted: Wanted) -> None:
        self.groups, self.wanted = groups, wanted
        self._open: tuple[Path, pq.ParquetFile, Columns] | None = None

    def pools(self, start: int, stop: int) -> Iterator[RawPool | Drop]:
        """A pool for every question that begins in row groups `start` to `stop`, and a drop for every row that can't be used.

        A question that begins there and goes on behind `stop` is read whole; one that began before `start` is passed over.
        """
        passed = self._last_key(start - 1) if start else None
        key: Key | None = None
        rows: list[tuple[Batch, int]] = []
        for g in range(start, len(self.groups)):
            for batch in self.batches(g):
                for begin, end in batch.runs():
                    here: Key = (decoded(batch.question[begin]), decoded(batch.answer[begin]))
                    if here == passed:
                        continue
                    passed = None
                    if here != key:
                        if key is not None and key[0]:
                            yield RawPool(key, rows)
                        if g >= stop:
                            return
                        key, rows = here, []
                    yield from self._usable(batch, begin, end, rows)
            if key is None and g + 1 >= stop:
                return
        if key is not None and key[0]:
            yield RawPool(key, rows)

    def _usable(self, batch: Batch, begin: int, end: int, rows: list[tuple[Batch, int]]) -> Iterator[Drop]:
        """Adds the usable rows to `rows` and gives back drops for the others."""
        chosen = self.wanted.variants
        if not batch.flaws and not chosen:
            rows.extend((batch, row) for row in range(begin, end))
            return
        for row in range(begin, end):
            flaw = batch.flaws.get(row)
            if flaw is None and chosen and batch.variant[row] not in chosen:
                flaw = "variant_not_chosen"
            if flaw is None:
                rows.append((batch, row))
            else:
                yield Drop("rows", batch.origin(row), flaw)

    def _file(self, path: Path) -> tuple[pq.ParquetFile, Columns]:
        if self._open is None or self._open[0] != path:
            file = pq.ParquetFile(opened(path) if is_remote(path) else path)
            self._open = path, file, Columns.find(file.schema_arrow.names, self.wanted, address(path))
        return self._open[1:]

    def batches(self, g: int) -> Iterator[Batch]:
        group = self.groups[g]
        file, columns = self._file(group.path)
        first = sum(file.metadata.row_group(k).num_rows for k in range(group.index))
        names = [*columns.names(), *(name for name in (WHERE, FLAW) if name in file.schema_arrow.names)]
        size = max(64, min(4096, group.rows * BATCH_BYTES // max(1, group.size)))
        for batch in file.iter_batches(size, row_groups=[group.index], columns=names, use_threads=False):
            yield Batch(batch, columns, address(group.path), first)
            first += batch.num_rows

    def _last_key(self, g: int) -> Key:
        group = self.groups[g]
        file, columns = self._file(group.path)
        names = [name for name in (columns.question, columns.answer) if name]
        table = file.read_row_group(group.index, columns=names, use_threads=False).slice(group.rows - 1)
        last = [decoded(labels(table.column(name).combine_chunks(), address(group.path))[0]) for name in names]
        return last[0], last[1] if len(last) > 1 else None
