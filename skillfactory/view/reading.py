"""The Parquet tables of a run as entries of an index: a stream, whatever command wrote them and whichever columns it has."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from skillfactory.errors import InputError
from skillfactory.markup import parse, verdict
from skillfactory.records import Check, Kind
from skillfactory.view.tables import Entry, Table

BATCH = 256  # rows; texts of a megabyte each are possible
FOLDERS = {
    "questions": Table.QUESTION,
    "attempts": Table.ATTEMPT,
    "reflections": Table.REFLECTION,
    "traces": Table.TRACE,
    "responses": Table.RESPONSE,
    "continuations": Table.RESPONSE,  # of `intervene`
    "drops": Table.DROP,
}
_NESTED = ("conversations", "segments", "attempt_ids")
_TOLD = (  # in fields of their own
    *("id", "trace_id", "question_id", "attempt_id", "subject_id", "task", "level", "group", "variant", "layout", "stage"),
    *("prompt", "text", "detail", "answer", "check", "verdict", "reason", "stop", "tokens", *_NESTED),
)
_UNTOLD = ("key", "keys", "sft_template_type_idx")
Row = Mapping[str, Any]


def parts(run: Path) -> list[tuple[Table, Path]]:
    """The files of a run that hold rows to look at, in the order in which they are read."""
    return [(table, part) for name, table in FOLDERS.items() for part in sorted((run / name).glob("*.parquet"))]


def rows_in(part: Path) -> int:
    """How many rows a file has; InputError if it can't be read."""
    try:
        return int(pq.read_metadata(part).num_rows)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{part}: can't be read as Parquet: {error}") from error


def entries(part: Path) -> Iterator[list[Entry]]:
    """The entries of a file, in batches. Those of traces come with their questions, which nothing else holds."""
    make = _MAKERS[part.parent.name]
    try:
        with pq.ParquetFile(part) as file:
            columns = [name for name in file.schema_arrow.names if name not in _UNTOLD]
            for group in range(file.num_row_groups):
                for batch in file.iter_batches(BATCH, [group], columns):
                    yield [entry for row in _rows(batch) for entry in make(row)]
    except (KeyError, TypeError) as error:
        raise InputError(f"{part}: a column is missing or of another type than a table of this name has ({error!r})") from error
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{part}: can't be read as Parquet: {error}") from error


def _rows(batch: pa.RecordBatch) -> Iterator[Row]:
    """The rows of a batch by column. Bytes that are no UTF-8 become replacement characters."""
    plain = {name: _values(batch.column(name)) for name in batch.schema.names if name not in ("conversations", "segments")}
    if "conversations" in batch.schema.names:
        plain["conversations"] = _lists(batch.column("conversations"), ("content",))
    if "segments" in batch.schema.names:
        plain["segments"] = _lists(batch.column("segments"), ("kind", "start", "end", "right", "skill"))
    for values in zip(*plain.values(), strict=True):
        yield dict(zip(plain, values, strict=True))


def _values(column: pa.Array) -> list[Any]:
    try:
        return list(column.to_pylist())
    except UnicodeDecodeError:
        texts = column.cast(pa.binary()).to_pylist()
        return [None if text is None else text.decode("utf-8", "replace") for text in texts]


def _lists(column: pa.Array, names: tuple[str, ...]) -> list[list[tuple[Any, ...]]]:
    """Some fields of each row's list of structs, None for what older files lack; flat, as nested Python values are slow."""
    flat = column.flatten()
    held = [flat.type.field(i).name for i in range(flat.type.num_fields)]
    columns = (_values(flat.field(name)) if name in held else [None] * len(flat) for name in names)
    items = list(zip(*columns, strict=True))
    found, at = [], 0
    for length in pc.list_value_length(column).to_pylist():
        found.append(items[at : at + (length or 0)])
        at += length or 0
    return found


def _question(row: Row) -> Iterator[Entry]:
    yield _entry(Table.QUESTION, row, row["id"], row["id"], row["prompt"], form=_text(row, "group"))


def _attempt(row: Row) -> Iterator[Entry]:
    yield _entry(Table.ATTEMPT, row, row["id"], row["question_id"], row["text"], form=_text(row, "variant"))


def _reflection(row: Row) -> Iterator[Entry]:
    yield _entry(Table.REFLECTION, row, row["id"], "", row["text"], parent=_text(row, "attempt_id"))


def _response(row: Row) -> Iterator[Entry]:
    """A response; of `budget`, one of its rounds, which share its id."""
    text = row["text"] or ""
    skills = tuple(name for name, _ in row.get("blocks") or ())  # all that were looked for, found or not
    said = next((part for part in reversed(parse(text, skills).parts) if part.kind is Kind.REFLECTION), None)
    last = "" if said is None else verdict(text[said.start : said.end]).value
    form = _text(row, "group") + (f", round {row['round']}" if "round" in row else "")
    entry = _entry(Table.RESPONSE, row, row["id"], row["question_id"], text, form=form, verdict=last)
    yield replace(entry, more={**entry.more, "skills": skills}) if skills else entry


def _continuation(row: Row) -> Iterator[Entry]:
    """What came of an intervention on a response, by the way in which its reflection was changed."""
    form = f"{_text(row, 'group')}, {_text(row, 'way')}"
    id = f"{row['response_id']}/{row['way']}/{row['number']}"
    yield _entry(Table.RESPONSE, row, id, row["question_id"], row["text"], form=form)


def _drop(row: Row) -> Iterator[Entry]:
    yield _entry(Table.DROP, row, row["subject_id"], "", row["detail"], form=_text(row, "stage"))


def _trace(row: Row) -> Iterator[Entry]:
    turns = [content or "" for (content,) in row["conversations"]]
    prompt, text = (turns[0] if len(turns) > 1 else ""), (turns[-1] if turns else "")
    rights = [right for kind, _, _, right, _ in row["segments"] if kind == Kind.ATTEMPT]
    said = next(((start, end) for kind, start, end, *_ in reversed(row["segments"]) if kind == Kind.REFLECTION), None)
    skills = tuple(dict.fromkeys(skill for *_, skill in row["segments"] if skill))
    question = row["question_id"]
    gold = row.get("gold")
    yield Entry(Table.QUESTION, question, question, prompt, answer=gold)
    uses = tuple(row["attempt_ids"] or ())
    entry = _entry(
        Table.TRACE,
        row,
        row["trace_id"],
        question,
        text,
        form=_text(row, "layout"),
        verdict="" if said is None else verdict(text[said[0] : said[1]]).value,
        check="" if not rights or rights[-1] is None else (Check.RIGHT if rights[-1] else Check.WRONG).value,
        uses=uses,
    )
    yield replace(entry, more={**entry.more, "rights": rights, "uses": uses, "skills": skills})


_MAKERS: Mapping[str, Callable[[Row], Iterator[Entry]]] = {
    "questions": _question,
    "attempts": _attempt,
    "reflections": _reflection,
    "traces": _trace,
    "responses": _response,
    "continuations": _continuation,
    "drops": _drop,
}


def _entry(table: Table, row: Row, id: str, question: str, text: str | None, **fields: Any) -> Entry:
    """An entry with the columns that most tables share."""
    more = {name: value for name, value in row.items() if name not in _TOLD and value is not None and value != ""}
    shared: dict[str, Any] = {name: _text(row, name) for name in ("task", "level", "check", "verdict", "reason", "stop")}
    shared |= {"answer": row.get("answer"), "tokens": row.get("tokens"), "more": more}
    return Entry(table, id, question, text or "", **(shared | fields))


def _text(row: Row, name: str) -> str:
    return str(row.get(name) or "")
