"""How fast `view` shows pages of 100,000 traces, beside reading the table whole for each page. One run, ratios.

    python benchmarks/view_speed.py [--traces 100000] [--from TRACES] [--pages 40] [--bars]

Without --from the traces are built from the sample in examples/raw. The index is made in a process of its own, whose time and
peak memory are told; then pages are asked of the server, over HTTP, on one core: the first page of the list, pages deep in it,
filtered ones, text searches (a common word, a rare one, one that is nowhere) and pages of single traces. Beside them: reading
the table whole with pyarrow and taking a page of it, as a viewer without an index does. With `--bars` the exit status is 1 if
the 95th percentile of any kind of page is 200 ms or more. Times are of the clock, so they want an idle core; CPU times stand
beside.
"""

import argparse
import http.client
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from urllib.parse import urlencode

import pyarrow.compute as pc
import pyarrow.parquet as pq

from skillfactory.progress import Silent
from skillfactory.view.library import Library
from skillfactory.view.server import Server
from skillfactory.view.tables import Table

BAR_MS = 200
INDEX = """
import json, resource, sys, time
from pathlib import Path
from skillfactory.progress import Silent
from skillfactory.view.library import Library
started = time.time()
Library.open([sys.argv[1]], Silent(), Path(sys.argv[2]))
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps([used.ru_utime + used.ru_stime, time.time() - started, used.ru_maxrss / 1024]))
"""


def made(folder: Path, traces: int) -> Path:
    """A build of so many traces from the shipped sample."""
    sample = Path(__file__).parent.parent / "examples" / "raw" / "data-schema.parquet"
    questions = len(set(filter(None, pq.read_table(sample, columns=["question"]).column(0).to_pylist())))
    flags = ["--layout", "mixed = I{0..3} C -> answer; reuse", "--limit", str(traces)]
    flags += ["--repeats", str(2 * -(-traces // questions))]  # some questions have too few right attempts
    command = [sys.executable, "-m", "skillfactory", "build", str(sample), "--output", str(folder), "--quiet", *flags]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder


def whole(traces: Path, page: int) -> int:
    """Reads the table whole and takes a page of it."""
    table = pq.read_table(traces / "traces", use_threads=False)
    fitting = table.filter(pc.equal(table["layout"], table["layout"][0]))
    return len(fitting.slice(page * 25, 25).to_pylist())


def milliseconds(work: Callable[[], object]) -> tuple[float, float]:
    """How long a piece of work takes: by the clock, and of the processor."""
    clock, cpu = time.perf_counter(), time.process_time()
    work()
    return 1000 * (time.perf_counter() - clock), 1000 * (time.process_time() - cpu)


def percentile(values: Sequence[float], share: float) -> float:
    """The value that so large a share of the values is not above."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def addresses(library: Library, pages: int) -> dict[str, list[str]]:
    """The addresses that are asked for, by kind of page."""
    random = Random(0)
    rows = library.runs[0].index.counts[Table.TRACE]
    some = [random.randrange(rows) for _ in range(pages)]

    def path(**query: object) -> str:
        return f"/0/trace?{urlencode(query)}"

    return {
        "first page": ["/0/trace"] * pages,
        "deep page": [path(after=n) for n in some],
        "last page": [path(before=rows + 1)] * pages,
        "filtered": [path(check="right", verdict="correct", after=n) for n in some],
        "text, common": [path(text="let me", after=n) for n in some],
        "text, rare": [path(text=f"{n % 90 + 10} + {n % 70 + 11} =") for n in some],
        "text, nowhere": [path(text=f"{n} is nowhere in any of them") for n in some],
        "text, two letters": [path(text="qz", after=n) for n in some],
        "one trace": [f"/0/trace/{n + 1}" for n in some],
    }


def ask(server: Server, path: str) -> None:
    """Asks for a page, which must be there."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.request("GET", path)
    found = connection.getresponse()
    found.read()
    connection.close()
    if found.status != 200:
        sys.exit(f"{path}: {found.status}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=int, default=100_000)
    parser.add_argument("--from", dest="given", type=Path, help="a build to show instead")
    parser.add_argument("--pages", type=int, default=40, help="of each kind")
    parser.add_argument("--bars", action="store_true", help="judge the figures")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        missed = measure(args.given or made(Path(work) / "traces", args.traces), Path(work) / "cache", args.pages)
    if args.bars:
        print(f"bars missed: {'; '.join(missed)}" if missed else "bars met")
        sys.exit(bool(missed))


def measure(traces: Path, cache: Path, pages: int) -> list[str]:
    """Prints the figures; gives back the bars missed."""
    done = subprocess.run([sys.executable, "-c", INDEX, str(traces), str(cache)], capture_output=True, text=True, check=True)
    cpu, wall, peak = json.loads(done.stdout)
    size = sum(path.stat().st_size for path in cache.iterdir()) / 1e6
    table = sum(path.stat().st_size for path in (traces / "traces").iterdir()) / 1e6
    print(f"index: {cpu:.0f} CPU s, {wall:.0f} s, peak {peak:.0f} MiB; {size:.0f} MB beside {table:.0f} MB of Parquet")
    opened = milliseconds(lambda: Library.open([str(traces)], Silent(), cache))
    library = Library.open([str(traces)], Silent(), cache)
    print(f"opening it again: {opened[0]:.0f} ms; {library.runs[0].index.counts}")
    missed, first = [], 0.0
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    with Server(library, 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        print(f"{'page':20} {'p50 ms':>8} {'p95 ms':>8} {'CPU p50':>8} {'CPU p95':>8}")
        for name, paths in addresses(library, pages).items():
            taken = [milliseconds(lambda path=path: ask(server, path)) for path in paths]  # type: ignore[misc]
            clock, used = zip(*taken, strict=True)
            figures = [percentile(values, share) for values in (clock, used) for share in (0.5, 0.95)]
            print(f"{name:20} " + " ".join(f"{figure:8.1f}" for figure in figures))
            first = first or figures[0]
            missed += [f"{name}: {figures[1]:.0f} ms"] if figures[1] >= BAR_MS else []
        print(f"peak of the server: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")
        server.shutdown()
    floor = min(milliseconds(lambda page=page: whole(traces, page))[0] for page in range(3))  # type: ignore[misc]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"reading the table whole: {floor:.0f} ms a page, {floor / first:.0f} times the first page; peak {peak:.0f} MiB")
    return missed


if __name__ == "__main__":
    main()
