"""The runner of integrations: findings of a check reach the page and the exit code, whatever way the check ends."""

import ast
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
GOOD = r"""
import os, sys
from pathlib import Path
print("version\tfake\t1.2.3")
print("noise of a library")
print("ok\tvariables\t" + " ".join(sorted({"SKILLFACTORY", "RUN", "TRACES", "MINI"} & {*os.environ})))
print("ok\tscratch\t" + str([*map(str, Path.cwd().iterdir())]))
print("ok\tquiet\t" + os.environ["OMP_NUM_THREADS"] + os.environ["HF_HUB_OFFLINE"])
print("skipped\tGPU|none\tthere is\tno <b>GPU</b> in " + str(Path.cwd()))
"""


def check(folder: Path, name: str, code: str) -> None:
    (folder / "integrations" / name).mkdir(parents=True, exist_ok=True)
    (folder / "integrations" / name / "check.py").write_text(code, "utf-8")


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "integrations" / "run.py"), *arguments, "--material", str(folder / "material")]
    for option, name in {"--folder": "integrations", "--page": "page.md", "--work": "work", "--environments": "."}.items():
        command += [option, str(folder / name)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def findings(folder: Path, name: str) -> list[tuple[str, str, str]]:
    found = json.loads((folder / "integrations" / "results.json").read_text("utf-8"))[name]["findings"]
    return [(each["outcome"], each["what"], each["detail"]) for each in found]


def test_findings_reach_the_results_and_the_page_and_stay_when_others_run(tmp_path: Path) -> None:
    check(tmp_path, "good", GOOD)
    check(tmp_path, "bad", 'print("ok\\tone\\tyes")\nprint("failed\\ttwo\\twas 3")\n')
    assert run(tmp_path, "good").returncode == 0
    done = run(tmp_path, "bad")
    assert (done.returncode, done.stdout) == (1, "== bad\nbad: 1 ok, 1 failed, 0 skipped\n")
    assert findings(tmp_path, "good") == [
        ("ok", "variables", "MINI RUN SKILLFACTORY TRACES"),
        ("ok", "scratch", "[]"),
        ("ok", "quiet", "11"),
        ("skipped", "GPU|none", "there is\tno <b>GPU</b> in …"),
    ]
    assert findings(tmp_path, "bad") == [("ok", "one", "yes"), ("failed", "two", "was 3")]
    page = (tmp_path / "page.md").read_text("utf-8")
    assert "Versions: fake 1.2.3." in page
    assert r"| GPU\|none | skipped | there is no \<b\>GPU\</b\> in … |" in page
    assert "| two | failed | was 3 |" in page
    assert "| [good](#good) | 3 | 0 | 1 |" in page
    assert "`PYTHONPATH=CLONE PYTHON_OF_THE_TRAINER -m skillfactory doctor`" in page
    assert "`OPEN_INSTRUCT=/path/of/its/clone make integrations`" in page
    assert str(tmp_path) not in page
    assert "noise of a library" in (tmp_path / "work" / "good.log").read_text("utf-8")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ('print("ok\\ta\\tb")\nraise SystemExit(3)\n', ("failed", "check.py", "exit code 3, see case.log")),
        ('print("nothing")\n', ("failed", "check.py", "it found nothing")),
    ],
)
def test_a_check_that_ends_badly_or_finds_nothing_has_failed(code: str, expected: tuple[str, str, str], tmp_path: Path) -> None:
    check(tmp_path, "case", code)
    assert run(tmp_path).returncode == 1
    assert findings(tmp_path, "case")[-1] == expected


def test_a_check_that_hangs_is_stopped_with_what_it_started_and_keeps_its_findings(tmp_path: Path) -> None:
    code = "import subprocess, sys\nprint('ok\\tbegan\\t', flush=True)\n"
    code += "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
    code += "open('child', 'w').write(str(child.pid))\nchild.wait()\n"
    check(tmp_path, "slow", code)
    assert run(tmp_path, "--timeout", "2").returncode == 1
    assert findings(tmp_path, "slow") == [("ok", "began", ""), ("failed", "time", "stopped after 2 s, see slow.log")]
    child = int((tmp_path / "work" / "slow" / "child").read_text())
    assert _gone(child)


def _gone(process: int) -> bool:
    for _ in range(100):
        try:
            if Path(f"/proc/{process}/stat").read_text().split(") ")[1][0] == "Z":
                return True
            os.kill(process, 0)
        except (OSError, IndexError):
            return True
        time.sleep(0.1)
    return False


def test_an_environment_is_made_once_and_anew_when_its_requirements_change(tmp_path: Path) -> None:
    check(tmp_path, "own", 'import sys, pathlib\nprint("ok\\tprefix\\t" + pathlib.Path(sys.prefix).name)\n')
    folder = tmp_path / "integrations" / "own"
    (folder / "requirements.txt").write_text("# none\n")
    (folder / "after.sh").write_text(f"python -c 'import sys; print(sys.prefix)' >> {tmp_path / 'after'}\n")
    for _ in range(2):
        assert run(tmp_path).returncode == 0
    assert findings(tmp_path, "own") == [("ok", "prefix", ".venv-own")]
    assert (tmp_path / "after").read_text().split() == [str(tmp_path / ".venv-own")]
    (tmp_path / ".venv-own" / "left").touch()
    (folder / "requirements.txt").write_text("# still none\n")
    assert run(tmp_path).returncode == 0
    assert len((tmp_path / "after").read_text().split()) == 2
    assert not (tmp_path / ".venv-own" / "left").exists()


def test_an_environment_that_cannot_be_made_is_a_failure_and_the_next_one_runs(tmp_path: Path) -> None:
    check(tmp_path, "broken", "")
    check(tmp_path, "good", GOOD)
    (tmp_path / "integrations" / "broken" / "requirements.txt").write_text("")
    (tmp_path / "integrations" / "broken" / "after.sh").write_text("echo what is wrong; exit 7\n")
    assert run(tmp_path).returncode == 1
    assert [outcome for outcome, _, _ in findings(tmp_path, "broken")] == ["failed"]
    assert "exit code 7, see broken.log" in findings(tmp_path, "broken")[0][2]
    assert "what is wrong" in (tmp_path / "work" / "broken.log").read_text("utf-8")
    assert len(findings(tmp_path, "good")) == 4


def test_an_unknown_hand_off_is_refused(tmp_path: Path) -> None:
    check(tmp_path, "good", GOOD)
    done = run(tmp_path, "god")
    assert done.returncode == 1
    assert "no hand-off is called god; there are: good" in done.stderr


def test_findings_stand_beside_the_commit_that_they_were_made_at(tmp_path: Path) -> None:
    check(tmp_path, "good", GOOD)
    shutil.copy(ROOT / "integrations" / "run.py", tmp_path / "integrations")
    (tmp_path / ".gitignore").write_text("/runs/\n")
    (tmp_path / "docs").mkdir()

    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
        done = subprocess.run(["git", *identity, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def stated() -> str:
        command = [sys.executable, str(tmp_path / "integrations" / "run.py"), "--material", str(tmp_path / "material")]
        subprocess.run(command, capture_output=True, timeout=120, check=True)
        found: str = json.loads((tmp_path / "integrations" / "results.json").read_text("utf-8"))["good"]["commit"]
        page = (tmp_path / "docs" / "integrations.md").read_text("utf-8")
        assert f"UTC | {found} |\n" in page
        return found

    (tmp_path / "runs" / "integrations").mkdir(parents=True)
    assert stated() == "unknown"
    git("init", "--quiet")
    git("add", "integrations/good", "integrations/run.py", ".gitignore")
    git("commit", "--quiet", "--message", "one")
    assert [stated(), stated()] == [git("rev-parse", "--short=10", "HEAD")] * 2
    (tmp_path / "integrations" / "good" / "new.py").touch()
    assert stated() == git("rev-parse", "--short=10", "HEAD") + " + changes"


def test_a_run_that_skips_all_keeps_what_was_found_and_says_when_it_skipped(tmp_path: Path) -> None:
    check(tmp_path, "case", 'print("skipped\\tall\\tno clone is named")\n')
    assert run(tmp_path).returncode == 0
    assert findings(tmp_path, "case") == [("skipped", "all", "no clone is named")]
    check(tmp_path, "case", 'print("version\\tfake\\t1")\nprint("ok\\tone\\tyes")\nprint("skipped\\ttraining\\tno GPU")\n')
    assert run(tmp_path).returncode == 0
    before = json.loads((tmp_path / "integrations" / "results.json").read_text("utf-8"))["case"]
    check(tmp_path, "case", 'print("skipped\\tall\\tno clone is named")\n')
    for _ in range(2):
        done = run(tmp_path)
        assert done.returncode == 0
        assert f"2 earlier findings are kept, of {before['when']}: no clone is named" in done.stdout
    after = json.loads((tmp_path / "integrations" / "results.json").read_text("utf-8"))["case"]
    assert "UTC" in after["note"]
    assert after["note"].endswith(": all was skipped; no clone is named")
    assert after | {"note": ""} == before
    page = (tmp_path / "page.md").read_text("utf-8")
    assert "all was skipped; no clone is named." in page
    assert "| one | ok | yes |" in page
    check(tmp_path, "case", 'print("ok\\tone\\tyes")\n')
    assert run(tmp_path).returncode == 0
    assert "Later run" not in (tmp_path / "page.md").read_text("utf-8")


CHECKS = sorted((ROOT / "integrations").glob("*/check.py"))


@pytest.mark.parametrize("path", CHECKS, ids=[path.parent.name for path in CHECKS])
def test_a_check_claims_nothing_that_it_has_not_looked_at(path: Path) -> None:
    """Each "ok" is one of two outcomes that a comparison decides on, and what holds for the package holds for the checks."""
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args:
            first = node.args[0]
            fixed = isinstance(first, ast.Constant) and (first.value is True or str(first.value).split("\t")[0] == "ok")
            assert not fixed, f"{path.parent.name}/check.py:{node.lineno}: this ok can't fail"
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, f"{path.parent.name}/check.py: {node.name}"
