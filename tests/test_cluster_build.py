"""Laws of builds and grading on a Ray cluster, on a real one of several nodes: the bytes of one process, whatever dies."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from easy_task import Sevens
from nodes import two_nodes
from rawdata import PREFIX, raw_rows
from ray.cluster_utils import Cluster
from test_build_from_run import curated
from tiny_model import save_tiny_model

from skillfactory.build import BuildConfig, BuildSummary, build
from skillfactory.build.assemble import Words
from skillfactory.build.directory import Claim, describe, keep_some
from skillfactory.build.released import Wanted
from skillfactory.build.sources import UNIT_BYTES, RawSource, open_source
from skillfactory.build.unit import Builder
from skillfactory.cli import main
from skillfactory.cluster.crew import AHEAD, DEATHS, RayCrew, hired
from skillfactory.errors import InputError, RunLockedError, SkillFactoryError
from skillfactory.grade import grade_file
from skillfactory.layouts import Draw
from skillfactory.machines import Workers
from skillfactory.places import is_remote, make_folder, names, place, put, read
from skillfactory.prompts import load_phrases
from skillfactory.records import Grade, Question
from skillfactory.tracefiles import TraceFiles

LAYOUTS = ("*C_full", "paper")
TWO = Workers("ray", actors=2)
UNITS = 6


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with two_nodes() as made:
        yield made


def write(rows: list[dict[str, Any]], path: Path, units: int) -> Path:
    """A Parquet file of so many row groups, each a unit of a build: a column that nobody reads makes them large enough."""
    path.parent.mkdir(parents=True)
    table = pa.Table.from_pylist(rows)
    size = -(-len(rows) // units)
    ballast = pa.array(["x" * (UNIT_BYTES // size + 1)] * size)
    with pq.ParquetWriter(path, table.schema.append(pa.field("ballast", pa.string())), compression="zstd",
                          use_dictionary=["prompt_variant"]) as writer:  # fmt: skip
        for start in range(0, len(rows), size):
            part = table.slice(start, size)
            writer.write_table(part.append_column("ballast", ballast.slice(0, len(part))))
    return path.parent


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Raw data, the same in no order, and a run directory of several parts."""
    folder = tmp_path_factory.mktemp("inputs")
    rows = raw_rows(250, samples=4)
    mixed = Random(0).sample(rows, len(rows))
    return {
        "raw": write(rows, folder / "raw" / "rows.parquet", UNITS),
        "mixed": write(mixed[:2000], folder / "mixed" / "rows.parquet", 2),
        "run": curated(folder / "run", "lazy", "*C", questions=260),
    }


def files(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def built(source: Path | str, output: Path, machines: Workers | None = None, **options: Any) -> BuildSummary:
    config = BuildConfig(inputs=(str(source),), output=output, layout=LAYOUTS, machines=machines or Workers(), **options)
    if machines is None:
        return build(config)
    with hired(machines) as crew:
        return build(config, crew=crew)


@pytest.mark.parametrize(
    ("source", "options"),
    [("raw", {"limit": 100}), ("raw", {"tokenizer": "tiny", "max_tokens": 500}), ("mixed", {}), ("run", {})],
)
def test_a_build_has_the_bytes_of_one_process(
    cluster: Cluster, inputs: dict[str, Path], tmp_path: Path, source: str, options: dict[str, Any]
) -> None:
    if "tokenizer" in options:
        options = options | {"tokenizer": str(save_tiny_model(tmp_path / "model"))}
    alone = built(inputs[source], tmp_path / "alone", **options)
    spread = built(inputs[source], tmp_path / "spread", TWO, **options)
    assert files(tmp_path / "spread") == files(tmp_path / "alone")
    assert source == "mixed" or len(list((tmp_path / "alone" / "traces").iterdir())) > 1, "there was more than one unit"
    assert spread.to_dict() == alone.to_dict()


def at_work(node: Any) -> list[int]:
    """The processes of the workers on a node that are in the middle of a job."""
    raylet = Path("/proc") / str(node.all_processes["raylet"][0].process.pid)
    found = []
    for children in raylet.glob("task/*/children"):
        for child in children.read_text().split():
            with suppress(OSError):  # it may just have ended
                if b"_Worker.do" in Path("/proc", child, "cmdline").read_bytes():
                    found.append(int(child))
    return found


def kill(cluster: Cluster, node: Any, worker: int) -> None:
    os.kill(worker, signal.SIGKILL)


def remove(cluster: Cluster, node: Any, worker: int) -> None:
    cluster.remove_node(node)  # its processes are ended; after a cut of the power, Ray takes 15 s to notice


@pytest.mark.parametrize("strike", [kill, remove])
def test_nothing_is_lost_or_doubled_when_workers_and_nodes_die(
    cluster: Cluster, inputs: dict[str, Path], tmp_path: Path, strike: Callable[[Cluster, Any, int], None]
) -> None:
    built(inputs["raw"], tmp_path / "alone", repeats=3)
    struck: list[int] = []
    with ThreadPoolExecutor() as pool:
        one = Workers("ray", actors=1)  # nobody else ends the build while a new one starts
        spread = pool.submit(built, inputs["raw"], tmp_path / "spread", one, repeats=3)
        while len(struck) < 2 and not spread.done():
            for node, worker in [(each, worker) for each in cluster.worker_nodes for worker in at_work(each)]:
                if worker not in struck and len(struck) < 2:
                    struck.append(worker)
                    strike(cluster, node, worker)
            time.sleep(0.002)
        while len(cluster.worker_nodes) < 2:  # the build has waited for a machine
            cluster.add_node(num_cpus=1)
        spread.result(timeout=60)
    assert len(struck) == 2
    assert files(tmp_path / "spread") == files(tmp_path / "alone")


def test_urls_are_read_and_written_by_workers_too(cluster: Cluster, inputs: dict[str, Path], tmp_path: Path) -> None:
    for source in ("raw", "mixed"):
        built(inputs[source], tmp_path / f"alone-{source}", limit=100)
        for name, machines in (("here", None), ("spread", TWO)):
            output = tmp_path / f"{name}-{source}"
            built(f"file://{inputs[source]}", place(f"file://{output}"), machines, limit=100)
            found, expected = files(output), files(tmp_path / f"alone-{source}")
            del found["build.json"], expected["build.json"], expected[".lock"]  # the inputs have other names
            assert found == expected, f"{source} {name}"


def test_an_error_in_a_unit_is_that_of_one_process(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = raw_rows(10)
    for row in rows[200:]:
        row[PREFIX] = [1]
    write(rows[:200], tmp_path / "raw" / "a.parquet", 2)
    write(rows[200:], tmp_path / "bad" / "b.parquet", 1)
    (tmp_path / "bad" / "b.parquet").rename(tmp_path / "raw" / "b.parquet")
    said = []
    for flags in ([], ["--on", "ray", "--actors", "1"]):
        arguments = ["build", str(tmp_path / "raw"), "--output", str(tmp_path / "out"), "--layout", "*C", "--quiet", *flags]
        assert main(arguments) == 2
        said.append(capsys.readouterr().err)
    assert said[0] == said[1]
    assert f"b.parquet, column '{PREFIX}'" in said[0]


def test_an_output_that_workers_do_not_see_is_an_error(inputs: dict[str, Path], tmp_path: Path) -> None:
    source = open_source([str(inputs["raw"])], Wanted())
    assert isinstance(source, RawSource)
    claim = Claim(tmp_path / "elsewhere")
    builder = Builder(source, Draw.read(["*C"]), Words(load_phrases()), 0, claim.drafts)
    with pytest.raises(InputError, match=r"elsewhere: not in sight of .*, which is to write there; all machines must find"):
        builder.unit(0)
    (tmp_path / "elsewhere").mkdir()
    describe(tmp_path / "elsewhere", {}, None)
    for path in inputs["raw"].iterdir():
        path.rename(path.with_suffix(".moved"))
    with pytest.raises(InputError, match=r"not in sight of .*rows.parquet.*; all machines must find inputs and output under"):
        builder.unit(0)
    for path in inputs["raw"].iterdir():
        path.rename(path.with_suffix(".parquet"))
    written = builder.unit(0).files
    assert list(written) == ["traces/part-00000.parquet"]
    claim.publish(written, patience=0)
    with pytest.raises(InputError, match=r"what a worker wrote for traces/part-00000.parquet is not in sight here"):
        claim.publish(written, patience=0)


class Doubled:
    """A crew in which each unit is done twice, by a worker that was taken for dead too; and again when the build is over."""

    def each(self, work: Callable[[int], Any], units: int) -> Iterator[Any]:
        self.again = [partial(work, unit) for unit in range(units)]
        for unit in range(units):
            done = work(unit)
            work(unit)
            yield done


@pytest.mark.parametrize("where", ["", "file://"])
def test_a_worker_that_wakes_up_changes_nothing(inputs: dict[str, Path], tmp_path: Path, where: str) -> None:
    built(inputs["raw"], tmp_path / "alone", limit=50)
    output = place(f"{where}{tmp_path / 'out'}")
    config = BuildConfig(inputs=(str(inputs["raw"]),), output=output, layout=LAYOUTS, limit=50)
    crew = Doubled()
    build(config, crew=crew)
    expected = files(tmp_path / "alone")
    assert {".lock": b""} | files(tmp_path / "out") == expected
    for unit in crew.again:
        unit()
    found = {name: text for name, text in files(tmp_path / "out").items() if not name.startswith(".drafts-")}
    assert {".lock": b""} | found == expected
    assert TraceFiles.open(output, ["trace_id"]).rows == 50
    assert pq.read_table(tmp_path / "out" / "traces").num_rows == 50
    build(config)
    assert {".lock": b""} | files(tmp_path / "out") == expected, "drafts stayed"


class Robbed:
    """A crew that loses its directory to another process after so many units, which have been published."""

    def __init__(self, output: Path, after: int) -> None:
        self.output, self.after = output, after
        self.theirs: dict[Path, bytes] = {}

    def each(self, work: Callable[[int], Any], units: int) -> Iterator[Any]:
        for unit in range(units):
            if unit == self.after:
                self.rob(unit)
            yield work(unit)
        if units == self.after:
            self.rob(units)

    def rob(self, published: int) -> None:
        end = time.monotonic() + 20
        while len(names(self.output / "traces")) < published and time.monotonic() < end:
            time.sleep(0.01)
        holder = json.dumps({"process": 99, "host": "far", "token": "another"}).encode()
        theirs = {".holder-000002": holder, "build.json": b"{}", ".drafts-theirs/traces": b"draft"}
        theirs |= {f"traces/part-{unit:05d}.parquet": b"%d" % unit for unit in range(UNITS + 1)}
        self.theirs = {self.output / name: text for name, text in theirs.items()}
        for path, text in self.theirs.items():
            make_folder(path.parent)
            put(path, text)


@pytest.mark.parametrize("after", [1, UNITS - 1])
@pytest.mark.parametrize("scheme", ["file", "memory"])
def test_a_build_that_has_lost_its_directory_leaves_it_alone(
    inputs: dict[str, Path], tmp_path: Path, scheme: str, after: int
) -> None:
    output = place(f"{scheme}://{tmp_path}/out")
    assert is_remote(output)
    crew = Robbed(output, after)
    with pytest.raises(RunLockedError, match="another one has taken over its directory"):
        build(BuildConfig(inputs=(str(inputs["raw"]),), output=output, layout=LAYOUTS), crew=crew)
    assert crew.theirs
    assert {path: read(path) for path in crew.theirs} == crew.theirs
    drafts = [name for name in names(output) if name.startswith(".drafts-") and names(output / name)]
    assert drafts == [".drafts-theirs"]


def test_a_random_subset_is_not_drawn_in_a_directory_that_was_lost(inputs: dict[str, Path], tmp_path: Path) -> None:
    built(inputs["raw"], tmp_path / "out")
    before = files(tmp_path / "out")

    def lost() -> None:
        raise RunLockedError("lost")

    for limit, seed in ((50, 0), (1, 0), (1, 1), (1, 2)):  # of one trace, most parts go, and the first with some seed
        with pytest.raises(RunLockedError):
            keep_some(Claim(tmp_path / "out", lost), limit, seed)
        found = {name: text for name, text in files(tmp_path / "out").items() if not name.startswith(".drafts-")}
        assert found == before


def late(job: int) -> int:
    """The earlier of a pair takes longer."""
    time.sleep(0.02 * (1 - job % 2))
    return -job


def test_results_come_in_order_and_few_jobs_are_ahead_of_them(cluster: Cluster) -> None:
    taken = 0

    def jobs() -> Iterator[int]:
        nonlocal taken
        for taken in range(1, 201):
            yield taken - 1

    for number, result in enumerate(RayCrew(TWO).map(late, jobs())):
        assert result == -number
        assert taken <= number + 1 + 2 * AHEAD


def deadly(job: int) -> int:
    if job == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return job


def test_a_job_that_kills_its_workers_stops_the_work(cluster: Cluster) -> None:
    found: list[int] = []
    with pytest.raises(SkillFactoryError, match=f"{DEATHS} workers died over the same part of the work, number 5"):
        found += RayCrew(TWO).each(deadly, 20)
    with pytest.raises(SkillFactoryError, match=r"no machine of the cluster had room for a worker of 3 cores for 0.1 s"):
        found += RayCrew(Workers("ray", actor_cpus=3), patience=0.1).each(deadly, 20)


def deadly_late(job: tuple[str, float]) -> str:
    """Kills its process after so many seconds, once."""
    mark, seconds = Path(job[0]), job[1]
    if not mark.exists():
        mark.touch()
        time.sleep(seconds)
        os.kill(os.getpid(), signal.SIGKILL)
    return mark.name


def test_the_wait_for_room_begins_when_the_last_worker_dies(cluster: Cluster, tmp_path: Path) -> None:
    patience = 5.0
    crew = RayCrew(Workers("ray", actors=1), patience)
    assert list(crew.map(deadly_late, [(str(tmp_path / "mark"), patience + 0.5)])) == ["mark"]


class Deadly(Sevens):
    """A task of small products whose check kills its process at two of the questions, once each."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def check(self, question: Question, answer: str) -> Grade:
        mark = self.folder / question.id
        if question.id in ("sevens-3", "sevens-1500") and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().check(question, answer)


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_grades_have_the_bytes_of_one_process_though_workers_die(cluster: Cluster, tmp_path: Path, kind: str) -> None:
    lines = [f'{{"facts": {{"left": {n}, "right": 3}}, "candidate": "{n * 3}", "n": {n}}}\n' for n in range(5000)]
    lines[7:9] = ["no row\n", '{"facts": 1, "candidate": "3"}\n']
    (tmp_path / "rows.jsonl").write_text("".join(lines))
    (tmp_path / "marks").mkdir()
    alone = grade_file(tmp_path / "rows.jsonl", Sevens(), tmp_path / f"alone.{kind}")
    flags = ["--task", f"{__name__}:Deadly", "--option", f"folder={tmp_path / 'marks'}", "--on", "ray", "--quiet", "--json"]
    assert main(["grade", str(tmp_path / "rows.jsonl"), "--output", str(tmp_path / f"spread.{kind}"), *flags]) == 0
    assert sorted(path.name for path in (tmp_path / "marks").iterdir()) == ["sevens-1500", "sevens-3"]
    assert (tmp_path / f"spread.{kind}").read_bytes() == (tmp_path / f"alone.{kind}").read_bytes()
    assert alone.rows == 5000
    assert len(alone.bad_rows) == 2
