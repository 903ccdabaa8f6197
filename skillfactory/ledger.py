"""The completions of one block of flows: a line each, appended as they come; a Parquet part once the block is finished.

A block's ledger, where there is one, holds every completion ever made for the block. It is begun with those of the finished
part when a block is opened again, and removed only when a new part with all its lines is in place. So nothing made is lost.
A ledger takes over those that others have left of the block, before it takes anything else: each of them has a name of its
own, so that a writer who is believed dead and isn't can't spoil the ledger of who took his place.

Where files can't be added to (`places`), a ledger is a file on this machine that is gone with its process, and its lines go to
files elsewhere every few seconds (`pieces`). Then a block holds what its finished part and all such files of it hold.
"""

import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import fields
from io import BufferedReader, FileIO
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import pyarrow as pa

from skillfactory.flow import Completion, Request
from skillfactory.pieces import Pieces
from skillfactory.places import files, is_remote, names, parquet, read, remove
from skillfactory.records import Stop

COMPLETIONS = pa.schema(
    {
        "flow": pa.int64(),  # the number of the flow that asked
        "key": pa.string(),
        "text": pa.string(),
        "stop": pa.string(),
        "prompt_tokens": pa.int64(),
        "tokens": pa.int64(),
        "limit": pa.int64(),
        "error": pa.string(),
        "used": pa.bool_(),  # whether the results rest on it; if not, an earlier setting asked for it
        "forced": pa.int64(),  # tokens put into the model's mouth at the start of what it was asked for
        "ids": pa.list_(pa.int32()),  # of the whole turn, where they were asked for
    }
)
_FIELDS = tuple(field.name for field in fields(Completion))
_RARE = {"forced": 0, "ids": None}  # most stages have none of these, and then their lines don't say so
_PATIENCE = 60.0  # seconds; the longest that NFS keeps what it knows of a folder, unless told otherwise
Place = tuple[int, int]  # offset and length of a line


class Ledger:
    """The completions of an open block, found by request key. Texts stay on disk; memory holds their places."""

    def __init__(self, path: Path, part: Path, left: Sequence[Path] = ()) -> None:
        """Opens the ledger `path` of the block whose finished part, if there is one, is `part`; those `left` by others go."""
        self.path = path
        self._pieces = Pieces(path) if is_remote(path) else None
        self._file = _gathered(path, part) if self._pieces else _appended(path, part, left)
        self._places: dict[str, list[tuple[int, Place]]] = {}  # key → (flow, place) of its lines
        self._used: dict[tuple[int, str], Place] = {}
        self._end = 0
        self.damaged = 0  # lines that say nothing; their requests are asked again
        self.failed: set[str] = set()  # keys of the requests that failed before
        for place, stored in _lines(self._file):
            self._end = sum(place)
            if stored is None:
                self.damaged += 1
                continue
            flow, completion = stored
            self._places.setdefault(completion.key, []).append((flow, place))
            if completion.stop is Stop.ERROR:
                self.failed.add(completion.key)
        self._file.truncate(self._end)  # what a kill cut off is asked for again
        self._file.seek(self._end)

    def get(self, flow: int, request: Request, failures: bool = False) -> Completion | None:
        """The stored completion that serves `request`, of this flow if it has one, else of another in the block.

        With `failures`, a stored failure of this flow serves too, where there is nothing better.
        """
        failure: tuple[Completion, Place] | None = None
        for owner, place in sorted(self._places.get(request.key, ()), key=lambda entry: entry[0] != flow):
            completion = self._read(place)
            if completion.serves(request):
                self._used[flow, request.key] = place
                return completion
            if failures and owner == flow and completion.stop is Stop.ERROR:
                failure = completion, place
        if failure is None:
            return None
        self._used[flow, request.key] = failure[1]
        return failure[0]

    def put(self, flow: int, completion: Completion) -> None:
        """Keeps a completion: with the operating system when this returns, so safe against a kill of this process.

        It isn't forced to the disk before the block ends, so a loss of power may cost the last seconds' completions, which
        are then asked for again. Elsewhere a kill may cost them too.
        """
        line = _line(flow, completion)
        place = (self._end, len(line))
        _write(self._file.fileno(), line)
        if self._pieces:
            self._pieces.add(line)
        self._end += len(line)
        self._places.setdefault(completion.key, []).append((flow, place))
        self._used[flow, completion.key] = place

    def table(self) -> pa.Table:
        """All completions in a fixed order, whatever the order in which they came: by flow, then key.

        Failures that nothing rests on any more are left out, and so are lines that say the same twice.
        """
        rows = {_identity(row): row for row in self._rows()}
        order = sorted(rows.values(), key=lambda row: (row["flow"], row["key"], row["limit"], not row["used"], row["text"]))
        return pa.Table.from_pylist(order, COMPLETIONS)

    def sync(self) -> None:
        """Forces the lines to the disk, if it is on this machine."""
        if not self._pieces:
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Closes the file; its lines stay."""
        self._file.close()
        if self._pieces:
            self._pieces.close()

    def remove(self) -> None:
        """Closes and deletes the file, whose lines a part holds now; gone it is if another has taken it over."""
        self._file.close()
        if self._pieces:
            self._pieces.close(keep=False)
        for path in _pieces_of(self.path) if self._pieces else [self.path]:
            remove(path)

    def _rows(self) -> Iterator[dict[str, Any]]:
        """The unused completions, then the used ones with the flow that used them."""
        used = set(self._used.values())
        for entries in self._places.values():
            for flow, place in entries:
                if place not in used and (completion := self._read(place)).stop is not Stop.ERROR:
                    yield _row(flow, completion, False)
        for (flow, _), place in self._used.items():
            yield _row(flow, self._read(place), True)

    def _read(self, place: Place) -> Completion:
        return _parse(os.pread(self._file.fileno(), place[1], place[0]))[1]


def _identity(row: dict[str, Any]) -> tuple[Any, ...]:
    """What makes two rows the same: a used one takes the place of an unused twin, which comes before it."""
    return (row["flow"], row["key"], row["limit"], row["stop"], row["text"])


def _row(flow: int, completion: Completion, used: bool) -> dict[str, Any]:
    text = completion.text.encode("utf-8", "replace").decode()  # half a surrogate pair has no place in Parquet
    return {"flow": flow, **_plain(completion), "text": text, "used": used}


def _line(flow: int, completion: Completion) -> bytes:
    values = {name: value for name, value in _plain(completion).items() if name not in _RARE or value != _RARE[name]}
    return json.dumps([flow, values]).encode() + b"\n"


def _plain(completion: Completion) -> dict[str, Any]:
    """The fields by name; dataclasses.asdict takes ten times as long, for every completion."""
    return {name: getattr(completion, name) for name in _FIELDS}


def _parse(line: bytes) -> tuple[int, Completion]:
    flow, values = json.loads(line)
    return int(flow), _completion(values)


def _completion(values: dict[str, Any]) -> Completion:
    ids = values.get("ids")
    return Completion(**{**values, "stop": Stop(values["stop"]), "ids": None if ids is None else tuple(ids)})


def _lines(raw: FileIO) -> Iterator[tuple[Place, tuple[int, Completion] | None]]:
    """The place of each whole line with its flow and completion, None if it is damaged; a torn last line is no line."""
    offset = 0
    raw.seek(0)
    file = BufferedReader(raw)
    for line in file:
        if line.endswith(b"\n"):
            try:
                stored = _parse(line)
            except (ValueError, TypeError, KeyError):
                stored = None
            yield (offset, len(line)), stored
            offset += len(line)
    file.detach()


def _gathered(path: Path, part: Path) -> FileIO:
    """A file of this machine, without a name, with all that is known elsewhere of the block."""
    file = TemporaryFile("w+b", buffering=0)  # noqa: SIM115 (the ledger closes it)
    try:
        for line in _finished(part):
            _write(file.fileno(), line)
    except FileNotFoundError:
        pass  # the block was never finished
    for piece in _pieces_of(path):
        content = read(piece) or b""
        _write(file.fileno(), content[: content.rfind(b"\n") + 1])
    return file


def _pieces_of(path: Path) -> list[Path]:
    """All ledgers elsewhere, and pieces of some, of the block that the ledger `path` is of."""
    return files(path.parent, "-".join(path.stem.split("-")[:2]) + "[-.]*")


def _appended(path: Path, part: Path, left: Sequence[Path]) -> FileIO:
    """The ledger on this machine, begun with what is known of the block."""
    others = _in_sight(left)
    if others or (part.exists() and not path.exists()):
        _begin(path, part, others)
    return path.open("a+b", buffering=0)


def _in_sight(left: Sequence[Path]) -> list[Path]:
    """The ledgers that others have left, which were seen by who named them: what another machine wrote may come late to this.

    One that doesn't come at all was finished meanwhile by a worker that was believed dead; its part holds the lines.
    """
    deadline = time.monotonic() + _PATIENCE
    while left and (late := {path.name for path in left} - {*names(left[0].parent)}) and time.monotonic() < deadline:
        time.sleep(min(1.0, 0.1 * len(late)))
    return [path for path in left if path.exists()]


def _begin(path: Path, part: Path, others: Sequence[Path]) -> None:
    """Writes a ledger with what it holds, the completions of a finished part and the lines of others', which go.

    It is written at once or not at all, and before they go. Lines that say the same twice do no harm.
    """
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        if part.exists():
            file.writelines(_finished(part))
        for each in [path, *others] if path.exists() else others:
            with each.open("rb") as lines:
                file.writelines(line for line in lines if line.endswith(b"\n"))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    for other in others:
        other.unlink(missing_ok=True)


def _finished(part: Path) -> Iterator[bytes]:
    """The lines of a finished part."""
    with parquet(part) as file:
        for batch in file.iter_batches():
            for row in batch.to_pylist():
                yield _line(row["flow"], _completion({key: value for key, value in row.items() if key not in ("flow", "used")}))


def _write(descriptor: int, line: bytes) -> None:
    """Writes all of `line`; a full disk raises."""
    view = memoryview(line)
    while view:
        view = view[os.write(descriptor, view) :]
