"""Laws of large exports: memory doesn't grow with the traces, in many files or in one of many row groups."""

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from silver import attempt, row, write

from skillfactory.traces import trace_table

MEASURE = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)
"""
GROUP = 2500  # traces of about 2 kB: less than `build` puts into a row group
FEW, MANY = 8, 40  # groups: 20,000 and 100,000 traces, 160 MB of text apart


@pytest.fixture(scope="module")
def group() -> pa.Table:
    """A row group of traces."""
    text = "I could write 5 + 2 * {}. Its bracket makes {}; so it is worth 12, against the 7 that I need.\n"
    rows = []
    for i in range(GROUP):
        lines = "".join(text.format(i, k) for k in range(18))
        rows.append(row(f"q{i}/*C_full/0/0", [(attempt("original/0", lines, True, f"q{i}"), "It is 7.")], tokens=600))
    return trace_table(rows)


def directory(folder: Path, group: pa.Table, groups: int, files: int) -> Path:
    """Traces in so many row groups, spread over so many files."""
    write(folder, [])
    for number in range(files):
        with pq.ParquetWriter(folder / "traces" / f"part-{number:05d}.parquet", group.schema, compression="zstd") as writer:
            for _ in range(groups // files):
                writer.write_table(group)
    return folder


def peak(traces: Path, output: Path, *options: str) -> float:
    """The most memory that an export holds, in MiB."""
    command = [sys.executable, "-m", "skillfactory", "export", str(traces), "--output", str(output), *options, "--quiet"]
    done = subprocess.run([sys.executable, "-c", MEASURE, *command], capture_output=True, text=True, check=True)
    return float(done.stdout)


@pytest.mark.parametrize(
    ("options", "one_file"),
    [("chat", False), ("chat", True), ("chat --format jsonl", False), ("llamafactory", True), ("axolotl", False)],
)
def test_the_memory_of_an_export_does_not_grow_with_the_traces(
    options: str, one_file: bool, group: pa.Table, tmp_path: Path
) -> None:
    few, many = (
        peak(
            directory(tmp_path / f"traces-{n}", group, n, 1 if one_file else n), tmp_path / f"to-{n}", "--to", *options.split()
        )
        for n in (FEW, MANY)
    )
    assert many < few + 48, f"{few:.0f} MiB for {FEW * GROUP:,} traces, {many:.0f} for {MANY * GROUP:,}"
