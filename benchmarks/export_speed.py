"""How long `export` takes beside the floor: reading and writing the same Parquet with pyarrow, in the same run.

    python benchmarks/export_speed.py [--traces 1000000] [--repeat 3] [--to chat llamafactory chat:jsonl …] [--bars]

The traces are made once, in a scratch folder: those that `build` makes of examples/raw, again and again, each time with other
digits and with the lines of its attempts in another order (about 2 kB each). The floor reads the columns that the target
writes, row group by row group, and writes them with the compression and the encodings of the export's own files. Every
contender runs in a process of its own; floor and export take turns, and which is first alternates. CPU seconds are user +
system, start-up included; the ratio of a pair is export / floor. The middle one of CPU time is judged: both are one thread, and
the files are in the cache. With `--bars` the exit status is 1 if a bar is missed: 1.5 times the floor's time, and a peak memory
that grows by no more than 32 MiB from a tenth of the traces to all of them. What walks rows in Python is shown beside, with its
target's floor: `chat:jsonl` is chat in JSONL, `axolotl:wrong` is axolotl with the mask "wrong".
"""

import argparse
import random
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from build_speed import measure

from skillfactory.build import BuildConfig, build
from skillfactory.traces import SCHEMA, open_writer

BAR, GROWTH = 1.5, 32.0  # times; MiB
GROUP = 8192  # rows; `build` writes a row group for every 16 MiB of text, which is as many
CHAT = ["messages", *(name for name in SCHEMA.names if name != "conversations")]
FLOORS = {"chat": CHAT, "llamafactory": ["conversations"], "trl": ["messages"], "axolotl": ["messages"]}
"""The columns of a target, in its order."""
FLOOR = """
import sys, pyarrow.parquet as pq
from pathlib import Path
source, out, model, names = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4].split(",")
columns = ["conversations" if name == "messages" else name for name in names]
chunks = [pq.read_metadata(model).row_group(0).column(k) for k in range(pq.read_metadata(model).num_columns)]
dictionary = [chunk.path_in_schema for chunk in chunks if chunk.has_dictionary_page]
options = {"compression": chunks[0].compression, "use_dictionary": dictionary or False}
(out / "data").mkdir(parents=True)
for path in sorted((source / "traces").glob("*.parquet")):
    with pq.ParquetFile(path) as file:
        sink = None
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, columns).select(columns).rename_columns(names)
            sink = sink or pq.ParquetWriter(out / "data" / path.name, table.schema, **options)
            sink.write_table(table)
        sink.close()
"""
Cost = tuple[float, float, float]  # CPU seconds, wall seconds, peak MiB


def originals(scratch: Path) -> list[dict[str, Any]]:
    """Traces of the sample data, as rows."""
    raw = str(Path(__file__).parent.parent / "examples" / "raw")
    build(BuildConfig((raw,), scratch, layout=("*C_full",), max_attempts=4, repeats=4))
    return [row for part in sorted((scratch / "traces").glob("*.parquet")) for row in pq.read_table(part).to_pylist()]


_TABLES = [str.maketrans("123456789", "".join(random.Random(n).sample("123456789", 9))) for n in range(500)]


def varied(row: dict[str, Any], number: int, chance: random.Random) -> dict[str, Any]:
    """A trace like `row`, of the same lengths: other digits, the lines of each attempt in another order, other ids."""
    table, question = _TABLES[number % len(_TABLES)], f"q{chance.getrandbits(64):016x}"
    prompt, text = (turn["content"] for turn in row["conversations"])
    for segment in row["segments"]:
        if segment["kind"] == "attempt":
            lines = text[segment["start"] : segment["end"]].split("\n")
            chance.shuffle(lines)
            text = text[: segment["start"]] + "\n".join(lines) + text[segment["end"] :]
    turns = [{"role": "user", "content": prompt.translate(table)}, {"role": "assistant", "content": text.translate(table)}]
    new = {"trace_id": f"{question}/*C_full/0/0", "question_id": question, "tokens": len(text) // 3, "conversations": turns}
    new |= {name: row[name] and row[name].translate(table) for name in ("answer", "gold")}
    new["attempt_ids"] = [re.sub("^[^/]*", question, name) for name in row["attempt_ids"]]
    owned = [
        {**part, "attempt_id": part["attempt_id"] and re.sub("^[^/]*", question, part["attempt_id"])}
        for part in row["segments"]
    ]
    return {**row, **new, "segments": owned}


def make(folder: Path, traces: int, part_rows: int, rows: Sequence[dict[str, Any]]) -> int:
    """Writes a directory of traces as `build` does; gives back the bytes of its text."""
    (folder / "traces").mkdir(parents=True)
    chance, size = random.Random(0), 0
    for part, start in enumerate(range(0, traces, part_rows)):
        with open_writer(folder / "traces" / f"part-{part:05d}.parquet", SCHEMA) as writer:
            for begin in range(start, min(start + part_rows, traces), GROUP):
                numbers = range(begin, min(begin + GROUP, start + part_rows, traces))
                group = [varied(rows[chance.randrange(len(rows))], number, chance) for number in numbers]
                size += sum(len(turn["content"]) for row in group for turn in row["conversations"])
                writer.write_table(pa.Table.from_pylist(group, SCHEMA))
    return size


class Contest:
    """The floor and the exports of one directory of traces."""

    def __init__(self, work: Path, source: Path) -> None:
        self.work, self.source = work, source

    def export(self, to: str, keep: bool = False) -> Cost:
        """What an export costs."""
        target, _, way = to.partition(":")
        more = ["--format" if way == "jsonl" else "--mask", way] if way else []
        flags = ["--to", target, "--max-length", "100000", "--quiet", *more]
        out = self.work / "export"
        shutil.rmtree(out, ignore_errors=True)
        cost = measure(sys.executable, "-m", "skillfactory", "export", str(self.source), "--output", str(out), *flags)
        if keep:
            shutil.copy(min((out / "data").iterdir()), self.work / "model.parquet")
        self.size = sum(path.stat().st_size for path in (out / "data").iterdir())
        shutil.rmtree(out)
        return cost

    def floor(self, names: Sequence[str]) -> Cost:
        """What reading and writing these columns costs, written as the export's files are."""
        out = self.work / "copy"
        shutil.rmtree(out, ignore_errors=True)
        model = str(self.work / "model.parquet")
        cost = measure(sys.executable, "-c", FLOOR, str(self.source), str(out), model, ",".join(names))
        self.floor_size = sum(path.stat().st_size for path in (out / "data").iterdir())
        shutil.rmtree(out)
        return cost

    def pairs(self, to: str, repeat: int) -> Iterator[tuple[Cost, Cost]]:
        """Floor and export, side by side."""
        plain = to.partition(":")[0]
        names = FLOORS[plain]
        self.export(plain, keep=True)  # also a warm-up: the files are in the cache for both
        for n in range(repeat):
            if n % 2:
                ours = self.export(to)
                yield self.floor(names), ours
            else:
                yield self.floor(names), self.export(to)


def compare(contest: Contest, targets: Sequence[str], repeat: int) -> dict[str, tuple[float, float, float]]:
    """Prints the contenders side by side; gives back the ratios and the peak memory of each target."""
    print(f"{'':16}{'CPU s':>8}{'wall s':>8}{'peak MiB':>10}{'MB':>7}   ratio of CPU (pairs), of wall")
    found = {}
    for to in targets:
        pairs = list(contest.pairs(to, repeat))
        floor, ours = (tuple(min(column) for column in zip(*side, strict=True)) for side in zip(*pairs, strict=True))
        ratios = [[export[k] / base[k] for base, export in pairs] for k in (0, 1)]
        cpu, wall = (median(ratio) for ratio in ratios)
        found[to] = (cpu, wall, max(export[2] for _, export in pairs))
        each = " ".join(f"{ratio:.2f}" for ratio in sorted(ratios[0]))
        print(f"{'read + write':16}{floor[0]:8.2f}{floor[1]:8.2f}{floor[2]:10.0f}{contest.floor_size / 1e6:7.0f}")
        print(
            f"{to:16}{ours[0]:8.2f}{ours[1]:8.2f}{ours[2]:10.0f}{contest.size / 1e6:7.0f}   {cpu:.2f} ({each}), {wall:.2f}",
            flush=True,
        )
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=int, default=1_000_000)
    parser.add_argument("--part-rows", type=int, default=10_000, help="traces in a file")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--to", nargs="*", default=[*FLOORS, "chat:jsonl", "axolotl:wrong"])
    parser.add_argument("--scratch", type=Path, help="where to make the traces (about 0.4 kB each, three times over)")
    parser.add_argument("--bars", action="store_true", help="judge the figures")
    args = parser.parse_args()
    missed: list[str] = []
    with tempfile.TemporaryDirectory(dir=args.scratch) as scratch:
        work = Path(scratch)
        rows = originals(work / "original")
        print(f"{len(rows)} traces of examples/raw, varied", flush=True)
        peaks: dict[str, list[float]] = {}
        for count in (max(1, args.traces // 10), args.traces):
            source = work / f"traces-{count}"
            text = make(source, count, args.part_rows, rows)
            stored = sum(path.stat().st_size for path in (source / "traces").iterdir())
            print(f"\n{count:,} traces: {text / 1e6:,.0f} MB of text ({text // count:,} B each), {stored / 1e6:,.0f} MB stored")
            for to, (cpu, wall, peak) in compare(Contest(work, source), args.to, args.repeat).items():
                peaks.setdefault(to, []).append(peak)
                if count == args.traces and to in FLOORS and cpu > BAR:
                    missed.append(f"{to} {cpu:.2f} times the floor's CPU time, {wall:.2f} on the clock")
            shutil.rmtree(source)
    missed += [f"{to}: {few:.0f} → {many:.0f} MiB" for to, (few, many) in peaks.items() if many > few + GROWTH]
    print("\n" + (f"bars missed: {'; '.join(missed)}" if missed else f"bars met: {BAR} times the floor, constant memory"))
    return bool(args.bars and missed)


if __name__ == "__main__":
    sys.exit(main())
