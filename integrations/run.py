"""Runs the hand-offs against the real packages, each in an environment of its own, and writes docs/integrations.md.

    python integrations/run.py [NAME …] [--folder integrations] [--page docs/integrations.md] [--work runs/integrations]

A hand-off is a folder with `check.py`, and beside it, where it needs an environment of its own, `requirements.txt` with exact
pins, `after.sh` (run once pip is done, with the environment's programs first on PATH) and `needs-skillfactory` (an empty file:
the clone is installed into the environment too, without its dependencies). Without requirements the running Python serves.
`check.py` runs in an empty folder, finds SKILLFACTORY (the program), RUN (of `skillfactory curate`), TRACES (of `skillfactory
build`) and MINI (the embedded model) in its environment variables, and prints a line for each finding, its parts set apart by
tabs: `version PACKAGE VERSION`, `ok WHAT DETAIL`, `failed WHAT DETAIL`, `skipped WHAT WHY`.
Findings are kept in results.json with the commit that they were made at, and the page is made from it. A run of some hand-offs
keeps the others' findings; one that skips all of a hand-off (open-instruct, without OPEN_INSTRUCT) keeps its earlier findings
and notes the skip. The exit code is 1 if anything failed.
"""

import argparse
import hashlib
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
OUTCOMES = ("ok", "failed", "skipped")
LONGEST = 300  # characters of a detail on the page
QUIET = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
CURATE = (
    "curate --task countdown --level mini --questions 100 --model mini --engine-option batch_size=128 --engine-option "
    "threads=1 --variants-file brief --reflection-file brief --mode lazy --layout *C_full --max-tokens 128 --output"
)
BUILD = "--layout *C_full --phrases brief --tokenizer mini --overwrite --output"


@dataclass
class Result:
    """What became of a hand-off."""

    when: str
    platform: str
    python: str
    seconds: int = 0
    versions: dict[str, str] = field(default_factory=dict)
    findings: list[dict[str, str]] = field(default_factory=list)
    commit: str = ""  # of this clone
    note: str = ""  # a later run that skipped all

    def add(self, outcome: str, what: str, detail: str = "") -> None:
        """Takes a finding."""
        self.findings.append({"outcome": outcome, "what": what, "detail": detail})

    def count(self, outcome: str) -> int:
        """How many findings have an outcome."""
        return sum(found["outcome"] == outcome for found in self.findings)

    @property
    def empty(self) -> bool:
        """Whether all was skipped, so that nothing was found."""
        return self.count("skipped") == len(self.findings)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the hand-offs that are named, or all; 1 if a finding failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="hand-offs to run (default: all)")
    parser.add_argument("--folder", type=Path, default=ROOT / "integrations", help="where the hand-offs stand")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "integrations.md", help="the page to write")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "integrations", help="logs and scratch folders")
    parser.add_argument("--environments", type=Path, default=ROOT, help="where the folders .venv-NAME stand")
    parser.add_argument("--timeout", type=int, default=1200, help="seconds for each check")
    parser.add_argument("--material", type=Path, help="a folder with run/ and traces/ to use, instead of making them")
    options = parser.parse_args(arguments)
    known = sorted(path.parent.name for path in options.folder.glob("*/check.py"))
    unknown = sorted({*options.names} - {*known})
    if unknown:
        raise SystemExit(f"no hand-off is called {', '.join(unknown)}; there are: {', '.join(known) or 'none'}")
    names = options.names or known
    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    store = options.folder / "results.json"
    environment = os.environ | QUIET | material(options.material and options.material.resolve(), work)
    failed = False
    for name in names:
        print(f"== {name}", flush=True)
        commit = committed(ROOT, store, options.page)  # before the check: the tree may change meanwhile
        result = checked(
            options.folder / name, options.environments.resolve() / f".venv-{name}", work, environment, options.timeout
        )
        result.commit = commit
        results = read(store)  # read anew: another run may have written meanwhile
        results[name] = asdict(kept(results.get(name), result))
        store.write_text(json.dumps(dict(sorted(results.items())), indent=2, ensure_ascii=False) + "\n", "utf-8")
        options.page.write_text(page({key: Result(**value) for key, value in sorted(results.items())}), "utf-8")
        print(f"{name}: " + ", ".join(f"{result.count(outcome)} {outcome}" for outcome in OUTCOMES), flush=True)
        failed = failed or result.count("failed") > 0
    return int(failed)


def read(store: Path) -> dict[str, Any]:
    """The results of earlier runs."""
    found: dict[str, Any] = json.loads(store.read_text("utf-8")) if store.exists() else {}
    return found


def kept(before: Mapping[str, Any] | None, now: Result) -> Result:
    """What is kept of a run: its result, or the earlier one with a note where this run skipped all of what that one found."""
    earlier = Result(**before) if before else now
    if not now.empty or earlier.empty:
        return now
    earlier.note = f"{now.when}, commit {now.commit}: all was skipped; {now.findings[0]['detail']}"
    print(f"{len(earlier.findings)} earlier findings are kept, of {earlier.when}: {now.findings[0]['detail']}", flush=True)
    return earlier


def committed(clone: Path, *written: Path) -> str:
    """The commit of a clone, with "+ changes" where its files differ from it, but for those that this program writes."""
    own = [path.resolve().relative_to(clone) for path in written if path.resolve().is_relative_to(clone)]
    told = []
    for command in (
        ["rev-parse", "--short=10", "HEAD"],
        ["status", "--porcelain", "--", ".", *(f":(exclude){at}" for at in own)],
    ):
        try:
            done = subprocess.run(["git", "-C", str(clone), *command], capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            return "unknown"
        told.append(done.stdout.strip())
    return told[0] + (" + changes" if told[1] else "")


def material(given: Path | None, work: Path) -> dict[str, str]:
    """What every check gets: the program, a run and traces of the embedded model, and that model, as environment variables."""
    from skillfactory.embedded import located

    program = Path(sys.executable).with_name("skillfactory")
    folder = given or work / "material"
    run, traces = folder / "run", folder / "traces"
    if given is None:
        environment = os.environ | QUIET
        commands = ([*CURATE.split(), str(run)], ["build", str(run), *BUILD.split(), str(traces)])
        for command in commands:
            subprocess.run([str(program), *command, "--quiet"], check=True, env=environment)
    return {"SKILLFACTORY": str(program), "RUN": str(run), "TRACES": str(traces), "MINI": str(located("mini"))}


def checked(folder: Path, venv: Path, work: Path, environment: Mapping[str, str], timeout: int) -> Result:
    """What the check of a hand-off finds; a failed finding where it doesn't come to its end."""
    began = time.monotonic()
    now = datetime.now(UTC)
    result = Result(f"{now:%Y-%m-%d %H:%M} UTC", f"{platform.system()} {platform.machine()}, {cores()} cores", "")
    log, scratch = work / f"{folder.name}.log", work / folder.name
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    with log.open("wb") as file:
        try:
            python = prepared(folder, venv, file)
        except subprocess.CalledProcessError as error:
            result.add(
                "failed", "environment", f"{' '.join(map(str, error.cmd))}: exit code {error.returncode}, see {log.name}"
            )
            return result
        result.python = subprocess.run([python, "-V"], capture_output=True, text=True, check=True).stdout.split()[1]
        own = {"PATH": f"{python.parent}{os.pathsep}{environment['PATH']}", "HF_HOME": str(scratch / "cache")}
        command = [str(python), str((folder / "check.py").resolve())]
        code, lines = run(command, scratch, {**environment, **own}, timeout, file)
    understood(lines, result, {str(scratch): "…", str(venv): venv.name, str(ROOT): "…"})
    if code is None:
        result.add("failed", "time", f"stopped after {timeout:,} s, see {log.name}")
    elif code and not result.count("failed"):
        result.add("failed", "check.py", f"exit code {code}, see {log.name}")
    elif not result.findings:
        result.add("failed", "check.py", "it found nothing")
    result.seconds = round(time.monotonic() - began)
    return result


def prepared(folder: Path, venv: Path, log: Any) -> Path:
    """The Python of a hand-off's environment, which is made if it isn't there or its requirements have changed."""
    requirements, after = folder / "requirements.txt", folder / "after.sh"
    if not requirements.exists():
        return Path(sys.executable)
    python, stamp = venv / "bin" / "python", venv / ".made-of"
    clone = (folder / "needs-skillfactory").exists()
    parts = [path.read_bytes() if path.exists() else b"" for path in (requirements, after)]
    wanted = hashlib.sha256(b"\0".join([*parts, str(clone).encode()])).hexdigest()
    found = stamp.read_text("utf-8").strip() if stamp.exists() else ""
    if found == wanted:
        return python
    if found:  # made of other requirements; one without a stamp was not finished, and pip goes on with it
        shutil.rmtree(venv)
    pip: list[str | Path] = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    commands: list[list[str | Path]] = [] if python.exists() else [[sys.executable, "-m", "venv", venv]]
    commands.append([*pip, "--requirement", requirements])
    commands += [["bash", after.resolve()]] if after.exists() else []
    commands += [[*pip, "--no-deps", "--editable", ROOT]] if clone else []
    environment = {**os.environ, "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}", "VIRTUAL_ENV": str(venv)}
    for command in commands:
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
    stamp.write_text(wanted + "\n", "utf-8")
    return python


def run(command: list[str], cwd: Path, environment: Mapping[str, str], timeout: int, log: Any) -> tuple[int | None, list[str]]:
    """Exit code (None: stopped at the time limit) and lines of a command; all that it says goes to the log too."""
    said = cwd.parent / f"{cwd.name}.findings"
    with said.open("wb") as file:
        process = subprocess.Popen(
            command, cwd=cwd, env=dict(environment), stdin=subprocess.DEVNULL, stdout=file, stderr=log, start_new_session=True
        )
        try:
            code: int | None = process.wait(timeout)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            with suppress(ProcessLookupError):  # what it started must not stay behind, whichever way it ended
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    text = said.read_bytes()
    said.unlink()
    log.write(text)
    return code, text.decode("utf-8", "replace").splitlines()


def understood(lines: Iterable[str], result: Result, hidden: Mapping[str, str]) -> None:
    """Takes the findings from the lines of a check; `hidden` are paths of this machine and what stands for them."""
    for line in lines:
        for path, short in hidden.items():
            line = line.replace(path, short)
        kind, *rest = line.split("\t", 2)
        if kind == "version" and len(rest) == 2:
            result.versions[rest[0]] = rest[1].strip()
        elif kind in OUTCOMES and rest:
            result.add(kind, rest[0], rest[1].strip() if len(rest) == 2 else "")


def page(results: Mapping[str, Result]) -> str:
    """The page of all results, in Markdown."""
    lines = [
        "# Integrations",
        "",
        "What the hand-offs came to in the real packages: `make integrations` builds an environment for each, runs its check "
        "on a run and traces of the embedded model, on a CPU and without network, and writes this page. "
        '`make integrations ONLY="verl trl"` runs some and keeps the others. A finding that was skipped says why. '
        "open-instruct has no releases: `OPEN_INSTRUCT=/path/of/its/clone make integrations` names a clone, and without it "
        "what was found before stays. The commit is that of this repository when the check began; + changes: with changes "
        "that it doesn't hold.",
        "",
        "These environments are for checking on a CPU and lack what training on GPUs needs. Whether a trainer's own "
        "environment fits is said by `PYTHONPATH=CLONE PYTHON_OF_THE_TRAINER -m skillfactory doctor`, where CLONE is a clone "
        "of this repository: `skillfactory doctor` tells of the environment that it is run in.",
        "",
        "| hand-off | ok | failed | skipped | seconds | when | commit |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, result in results.items():
        counts = " | ".join(str(result.count(outcome)) for outcome in OUTCOMES)
        lines.append(
            f"| [{name}](#{name}) | {counts} | {result.seconds:,} | {result.when} | {cell(result.commit) or 'unknown'} |"
        )
    for name, result in results.items():
        versions = ", ".join(f"{cell(package)} {cell(version)}" for package, version in result.versions.items())
        lines += [
            "",
            f"## {name}",
            "",
            f"Python {result.python or '?'}, {result.platform}. Versions: {versions or 'none said'}.",
            "",
        ]
        lines += [f"Later run: {cell(result.note)}.", ""] if result.note else []
        lines += ["| finding | | detail |", "|---|---|---|"]
        lines += [f"| {cell(each['what'])} | {each['outcome']} | {cell(each['detail'])} |" for each in result.findings]
    return "\n".join(lines) + "\n"


def cell(text: str) -> str:
    """A text as a cell of a table: one line, not too long, nothing in it read as Markdown."""
    text = re.sub(r"\s+", " ", text).strip()
    text = text if len(text) <= LONGEST else text[:LONGEST] + " …"
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", text)


def cores() -> int:
    """How many CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


if __name__ == "__main__":
    sys.exit(main())
