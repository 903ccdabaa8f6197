"""Studies with real commands as processes: what is done is kept, what fails is told, and a kill costs nothing."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from test_kill_resume import environment

from skillfactory.cli import main
from skillfactory.errors import InputError
from skillfactory.gathering import ReportConfig, report

ROOT = Path(__file__).parent.parent
SUITE = """
groups:
  - {name: two, kind: in-domain, task: multiplication, level: 2, questions: 8, samples: 2, max_tokens: 100}
  - {name: three, kind: harder, task: multiplication, level: 3, questions: 8, samples: 1, max_tokens: 100}
  - {name: four, kind: harder, task: multiplication, level: 4, questions: 8, samples: 1, max_tokens: 100}
"""
ENGINE = {"engine": "scripted", "engine_option": {"answer": "solver:answer"}, "model": ""}


def recipe_of(folder: Path, delay: float = 0.0, **changes: Any) -> Path:
    """The recipe of a study whose models are a function, in files beside it."""
    (folder / "suite.yaml").write_text(SUITE, encoding="utf-8")
    slow = {**ENGINE, "engine_option": {"answer": "solver:answer", "delay": delay, "concurrency": 8}}
    attempts = {"command": "curate", "task": "multiplication", "questions": 30, "samples": 2, "reflections": 1, **slow}
    stages = {
        "attempts": attempts,
        "traces": {"command": "build", "layout": ["0C"]},
        "eval": {"command": "evaluate", "suite": str(folder / "suite.yaml"), **ENGINE},
    }
    arms = {"base": [], "one": ["attempts", "traces"], "two": ["attempts", {"traces": {"layout": ["random"]}}]}
    run = {"output": str(folder / "study"), "seeds": [0], "workers": 2}
    content = {"run": run, "stages": stages, "arms": arms, "evaluate": ["eval"], "compare": [["one", "base"]], **changes}
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "skillfactory", "run", *map(str, arguments), "--quiet"]


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), env=environment(), capture_output=True, text=True, check=False)


def stages(folder: Path) -> dict[str, dict[str, Any]]:
    """What the finished stages of a study cost, by their folders' names."""
    return {path.parent.name: json.loads(path.read_text("utf-8")) for path in folder.glob("study/stages/*/done.json")}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a finished study, and what it printed."""
    folder = tmp_path_factory.mktemp("done")
    ended = run(recipe_of(folder))
    assert ended.returncode == 0, ended.stderr
    return folder, ended.stdout


def test_a_study_ends_with_its_table_its_numbers_and_its_page(done: tuple[Path, str]) -> None:
    folder, printed = done
    table = (folder / "study" / "table.md").read_text("utf-8")
    assert table in printed
    assert (folder / "study" / "costs.md").read_text("utf-8") in printed
    assert "| base " in table
    numbers = json.loads((folder / "study" / "study.json").read_text("utf-8"))
    accuracy = {(cell["arm"], cell["group"]): cell["accuracy"]["value"] for cell in numbers["cells"]}
    assert set(accuracy) == {(arm, name) for arm in ("base", "one", "two") for name in ("two", "three", "four", "mean harder")}
    assert accuracy["base", "mean harder"] == pytest.approx((accuracy["base", "three"] + accuracy["base", "four"]) / 2)
    run = numbers["runs"][0]
    assert json.loads(Path(run["output"], "evaluation.json").read_text("utf-8"))["groups"] == run["groups"]
    page = (folder / "study" / "report.html").read_text("utf-8")
    assert page.startswith("<!doctype html>")
    assert all(response in page for response in ("&lt;answer&gt;", "one minus base"))


def test_a_report_of_the_folder_is_the_page_of_the_study_wherever_it_lies(done: tuple[Path, str], tmp_path: Path) -> None:
    folder, _ = done
    moved = tmp_path / "moved"
    shutil.copytree(folder / "study", moved)
    report(ReportConfig((str(moved),), tmp_path / "report.html"))
    page = (tmp_path / "report.html").read_bytes()
    assert page == (folder / "study" / "report.html").read_bytes()
    text = page.decode()
    assert all(title in text for title in ("Kept and dropped", "Right at the first try", "Traces: traces one", "recipe.yaml"))
    held = json.loads((moved / "study.json").read_text("utf-8"))
    (moved / "study.json").write_text(json.dumps(held | {"arms": [{"nickname": "one", "seeds": []}]}), "utf-8")
    with pytest.raises(InputError, match=r"study\.json: expected the numbers of a study.*`skillfactory run` writes the file"):
        report(ReportConfig((str(moved),), tmp_path / "report.html"))


def test_what_arms_share_ran_once_and_costs_are_told(done: tuple[Path, str]) -> None:
    folder, _ = done
    found = stages(folder)
    assert sorted(name.rpartition("-")[0] for name in found) == ["attempts", "eval", "traces", "traces"]
    for about in found.values():
        assert about["cpu_seconds"] > 0
        assert 0 < about["seconds"] < 600
        assert about["max_rss"] > 2**20
        assert about["starts"] == 1


def test_a_finished_study_starts_nothing_and_gives_the_same_table(done: tuple[Path, str]) -> None:
    folder, printed = done
    before = {path: path.stat().st_mtime_ns for path in (folder / "study" / "stages").rglob("*")}
    again = run(folder / "study.yaml")
    assert (again.returncode, again.stdout) == (0, printed)
    assert {path: path.stat().st_mtime_ns for path in (folder / "study" / "stages").rglob("*")} == before


def test_another_folder_gives_the_same_table(done: tuple[Path, str], tmp_path: Path) -> None:
    folder, _ = done
    ended = run(folder / "study.yaml", "--output", tmp_path / "other")
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "other" / "table.md").read_bytes() == (folder / "study" / "table.md").read_bytes()


def test_a_dry_run_tells_what_is_done_and_starts_nothing(
    done: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = done
    assert main(["run", str(folder / "study.yaml"), "--dry-run"]) == 0
    assert ": 4 stages in " in (said := capsys.readouterr().out)
    assert said.count("  done  seed 0  ") == 4
    assert main(["run", str(folder / "study.yaml"), "--dry-run", "--output", str(tmp_path / "new"), "--arms", "one"]) == 0
    said = capsys.readouterr().out
    assert said.count("  open  seed 0  ") == 3
    assert said.count("skillfactory build --recipe ") == 1
    assert not (tmp_path / "new").exists()
    arguments = ["run", str(folder / "study.yaml"), "--dry-run", "--json"]
    assert main([*arguments, "--model", "some/base"]) == 0
    other = {node["stage"]: node["options"] for node in json.loads(capsys.readouterr().out)["plan"]}
    assert other["traces"]["tokenizer"] == "some/base"


def test_a_failed_stage_is_named_with_its_last_words_and_the_others_finish(tmp_path: Path) -> None:
    path = recipe_of(tmp_path)
    content = yaml.safe_load(path.read_text("utf-8"))
    content["stages"]["traces"]["inputs"] = ["no_such_run"]
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    ended = run(path)
    assert ended.returncode == 2
    log = next(tmp_path.glob("study/stages/traces-*/log.txt"))
    assert f"stage {log.parent.name} ended with exit code 2:\n" in ended.stderr
    assert f"    {log.read_text('utf-8').splitlines()[-1]}\n  all of it: {log}\n" in ended.stderr
    assert {name.rpartition("-")[0] for name in stages(tmp_path)} == {"attempts", "eval"}
    assert "Traceback" not in ended.stderr
    before = log.read_text("utf-8")
    again = run(path)
    assert log.read_text("utf-8") == f"{before}--- start 2\n{before}", "a further start leaves what an earlier one said"
    assert "--- start" not in again.stderr


def at_work(folder: Path) -> list[psutil.Process]:
    """The stages of a study that are at work."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "--recipe" in words and any(word.startswith(str(folder)) for word in words):
            found.append(process)
    return found


def in_mid_stage(folder: Path) -> subprocess.Popen[bytes]:
    """A study whose curation has some texts and wants more."""
    process = subprocess.Popen(command(recipe_of(folder, delay=0.02)), env=environment(), stderr=subprocess.DEVNULL)
    while not any(path.stat().st_size > 3000 for path in folder.glob("study/stages/attempts-*/out/ledger-*.jsonl")):
        assert process.poll() is None
        time.sleep(0.02)
    return process


def test_a_killed_study_leaves_no_process_and_goes_on_where_it_was(done: tuple[Path, str], tmp_path: Path) -> None:
    process = in_mid_stage(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.wait()
    _, alive = psutil.wait_procs(at_work(tmp_path), timeout=10)
    assert not alive
    ended = run(tmp_path / "study.yaml")
    assert ended.returncode == 0, ended.stderr
    attempts = next(tmp_path.glob("study/stages/attempts-*"))
    assert json.loads((attempts / "done.json").read_text("utf-8"))["starts"] == 2
    texts = json.loads((attempts / "summary.json").read_text("utf-8"))
    whole = next((done[0] / "study" / "stages").glob("attempts-*"))
    assert texts["new_texts"] < json.loads((whole / "summary.json").read_text("utf-8"))["new_texts"]
    assert (tmp_path / "study" / "table.md").read_bytes() == (done[0] / "study" / "table.md").read_bytes()


def test_a_stage_that_outlived_its_study_is_waited_for(tmp_path: Path) -> None:
    path = recipe_of(tmp_path)
    assert run(path, "--arms", "base").returncode == 0
    node = next(tmp_path.glob("study/stages/eval-*"))
    for name in ("done.json", "summary.json"):
        (node / name).unlink()
    hold = f"import fcntl, time; file = open({str(node / '.lock')!r}); fcntl.flock(file, fcntl.LOCK_EX); print(1, flush=True)"
    orphan = subprocess.Popen([sys.executable, "-c", f"{hold}; time.sleep(600)"], stdout=subprocess.PIPE)
    assert orphan.stdout
    orphan.stdout.readline()
    study = subprocess.Popen(command(path, "--arms", "base"), env=environment(), stdout=subprocess.DEVNULL)
    while not (tmp_path / "study" / ".holder").exists():
        assert study.poll() is None
        time.sleep(0.02)
    time.sleep(1.5)
    assert study.poll() is None
    assert not (node / "summary.json").exists(), "the study started a second process on the node"
    orphan.kill()
    orphan.wait()
    assert study.wait() == 0
    assert (node / "done.json").exists()


def test_ctrl_c_ends_the_stages_too(tmp_path: Path) -> None:
    process = in_mid_stage(tmp_path)
    processes = at_work(tmp_path)
    assert processes
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130
    assert not [each for each in processes if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    first = in_mid_stage(tmp_path)
    try:
        second = run(tmp_path / "study.yaml")
        assert second.returncode == 2
        assert f"another process is at work on this run directory (process {first.pid} on " in second.stderr
    finally:
        first.send_signal(signal.SIGINT)
        first.wait()
