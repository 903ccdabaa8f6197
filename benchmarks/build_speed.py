"""How long `build` takes beside the floor: a streaming read and write of the same files, and a pandas read. One run, ratios.

    python benchmarks/build_speed.py [RAW] [--layout '*C_full'] [--max-attempts 5] [--repeat 3] [--workers] [--sizes DIR …]

RAW is a folder of raw Parquet files; without one, copies of the sample in examples/raw are used. Every contender runs in a
process of its own, in turn, `--repeat` times; the best is kept. CPU seconds are user + system of the process and its
children, start-up included. Peak memory is the largest of any process. With `--bars` the exit status is 1 if a bar is missed:
twice the floor's CPU seconds, 400 MiB, 1.6 times as fast with two workers. They are meant for raw data of the published
size (4,000 questions, 64 attempts, 4 reflections, 1.3 GB of text) and idle cores.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

READ_WRITE = """
import sys, pyarrow.parquet as pq
from pathlib import Path
out = Path(sys.argv[2]); out.mkdir(parents=True)
for path in sorted(Path(sys.argv[1]).glob("*.parquet")):
    source = pq.ParquetFile(path)
    with pq.ParquetWriter(out / path.name, source.schema_arrow) as sink:
        for batch in source.iter_batches(2048, use_threads=False):
            sink.write_batch(batch)
"""
PANDAS = "import sys, pandas; pandas.read_parquet(sys.argv[1])"
MEASURE = """
import json, resource, subprocess, sys, time
started = time.time()
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
if code.returncode: sys.exit(code.stderr.decode())
print(json.dumps([used.ru_utime + used.ru_stime, time.time() - started, used.ru_maxrss / 1024]))
"""


def measure(*command: str) -> tuple[float, float, float]:
    """CPU seconds, wall seconds and peak MiB of a command."""
    done = subprocess.run([sys.executable, "-c", MEASURE, *command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}:\n{done.stderr}")
    cpu, wall, peak = json.loads(done.stdout)
    return cpu, wall, peak


def build_command(raw: Path, output: Path, args: argparse.Namespace, workers: int = 1) -> list[str]:
    flags = ["--layout", args.layout, "--max-attempts", str(args.max_attempts), "--workers", str(workers), "--quiet"]
    return [sys.executable, "-m", "skillfactory", "build", str(raw), "--output", str(output), *flags]


def copies(folder: Path, questions: int = 4000) -> Path:
    """A folder with the sample's questions again and again, each copy with another number in its text."""
    sample = pq.read_table(Path(__file__).parent.parent / "examples" / "raw" / "data-schema.parquet")
    sample = sample.filter(pc.is_valid(sample["question"]))
    folder.mkdir()
    for part in range(8):
        with pq.ParquetWriter(folder / f"part-{part}.parquet", sample.schema) as writer:
            for n in range(-(-questions // 96)):
                text = pc.binary_join_element_wise(sample["question"], f"({part}.{n})", " ")
                writer.write_table(sample.set_column(0, sample.schema.field(0), text))
    return folder


def same(one: Path, other: Path) -> bool:
    """Whether two directories hold the same bytes."""
    files = [sorted(p.relative_to(d) for p in d.rglob("*") if p.is_file()) for d in (one, other)]
    return files[0] == files[1] and all((one / name).read_bytes() == (other / name).read_bytes() for name in files[0])


def contenders(args: argparse.Namespace, work: Path) -> dict[str, list[str]]:
    python, raw = sys.executable, args.raw
    found = {
        "read + write": [python, "-c", READ_WRITE, str(raw), str(work / "copy")],
        "build": build_command(raw, work / "one", args),
    }
    if args.workers:
        found["build, 2 workers"] = build_command(raw, work / "two", args, 2)
    if not args.no_pandas:
        found["pandas read"] = [python, "-c", PANDAS, str(raw)]
    return found


def compare(args: argparse.Namespace, work: Path) -> list[str]:
    """Prints the contenders side by side; gives back the bars missed."""
    best: dict[str, tuple[float, float, float]] = {}
    for _ in range(args.repeat):
        for name, command in contenders(args, work).items():
            for place in ("copy", "one", "two"):
                if place in command[-1] or str(work / place) in command:
                    shutil.rmtree(work / place, ignore_errors=True)
            found = measure(*command)
            best[name] = tuple(map(min, best.get(name, found), found))  # type: ignore[assignment]
    floor = best["read + write"]
    print(f"{'':18} {'CPU s':>7} {'ratio':>6} {'wall s':>7} {'peak MiB':>9}")
    for name, (cpu, wall, peak) in best.items():
        print(f"{name:18} {cpu:7.2f} {cpu / floor[0]:6.2f} {wall:7.2f} {peak:9.0f}")
    cpu, _, peak = best["build"]
    missed = [f"CPU {cpu / floor[0]:.2f} times the floor"] * (cpu > 2 * floor[0]) + [f"peak {peak:.0f} MiB"] * (peak >= 400)
    if args.workers:
        speedup = best["build"][1] / best["build, 2 workers"][1]
        print(f"2 workers: {speedup:.2f} times as fast (wall)")
        print(f"identical output: {same(work / 'one', work / 'two')}")
        missed += [f"2 workers {speedup:.2f} times as fast"] * (speedup < 1.6)
        missed += ["output differs"] * (not same(work / "one", work / "two"))
    return missed


def grow(args: argparse.Namespace, work: Path) -> None:
    """Prints time and memory at other sizes."""
    for raw in args.sizes:
        shutil.rmtree(work / "sized", ignore_errors=True)
        cpu, wall, peak = measure(*build_command(raw, work / "sized", args))
        size = sum(path.stat().st_size for path in raw.glob("*.parquet")) / 1e6
        print(f"{raw.name:18} {cpu:7.2f} CPU s {wall:7.2f} wall s {peak:7.0f} MiB peak   {size:7.0f} MB of Parquet")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("raw", type=Path, nargs="?")
    parser.add_argument("--layout", default="*C_full")
    parser.add_argument("--max-attempts", type=int, default=5)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--workers", action="store_true", help="also build with two workers")
    parser.add_argument("--bars", action="store_true", help="judge the figures")
    parser.add_argument("--no-pandas", action="store_true", help="leave out the pandas read (about 5 GB)")
    parser.add_argument("--sizes", type=Path, nargs="*", default=[], help="other raw folders to build, for growth")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        args.raw = args.raw or copies(Path(work) / "raw")
        missed = compare(args, Path(work))
        grow(args, Path(work))
    if args.bars:
        print(f"bars missed: {'; '.join(missed)}" if missed else "bars met")
        sys.exit(bool(missed))


if __name__ == "__main__":
    main()
