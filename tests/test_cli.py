"""Laws of the command line: what goes where, which exit code, and that its help and its reference are complete."""

import json
import os
import re
import resource
import shlex
import signal
import subprocess
import sys
import textwrap
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

import skillfactory
from skillfactory.cli import main, parser
from skillfactory.commands import COMMANDS
from skillfactory.config import given, options

ROOT = Path(skillfactory.__file__).parent.parent
PAGES = sorted(page for pattern in ("*.md", "docs/*.md", "recipes/*.yaml") for page in ROOT.glob(pattern))


def run(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "skillfactory", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, **more}, check=False)


def test_the_overview_lists_every_command_and_is_quick() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = run("--help")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0
    # Processor time: other work on the machine is not the overview's.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0
    assert [line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ") and line[2] != "-"] == list(COMMANDS)


def test_the_overview_imports_no_library_of_tables_or_numbers() -> None:
    code = "import sys; from skillfactory.cli import main; main([]); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
    assert "skillfactory.cli" in done.stdout.split()
    assert not {"numpy", "pyarrow"} & set(done.stdout.split())


def test_version_is_the_packages() -> None:
    assert run("--version").stdout == f"skillfactory {skillfactory.__version__}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_has_a_description_every_option_with_a_text_and_an_example(name: str) -> None:
    command = COMMANDS[name]
    config_type = command.config()
    text = parser(name, command, config_type).format_help()
    words = " ".join(text.split())
    assert " ".join(command.description.split()) in words
    assert all(line in text for line in command.example.splitlines())
    for option in options(config_type):
        assert option.setting.metadata.get("help"), f"{option.flag} has no help"
        assert " ".join(option.help.split()) in words


def test_the_reference_is_what_the_commands_say() -> None:
    made = subprocess.run([sys.executable, "docs/make_cli.py"], capture_output=True, text=True, cwd=ROOT, check=True).stdout
    assert (ROOT / "docs" / "cli.md").read_text("utf-8") == made, "docs/cli.md is not current: run `make docs`"


def test_the_tour_of_the_readme_shows_what_the_commands_print(tmp_path: Path) -> None:
    """All of it but what asks or trains a model, and the build from its run (tests/test_demo*.py do the like)."""
    text = (ROOT / "README.md").read_text("utf-8")
    blocks = re.findall(r"^    \$ (.*)\n((?:    (?!\$).*\n)*)", text.replace("\\\n", ""), re.MULTILINE)
    tour = {command: textwrap.dedent(output).splitlines() for command, output in blocks}
    assert (ROOT / "examples" / "answers.jsonl").read_text("utf-8").splitlines() == tour.pop("cat examples/answers.jsonl")
    for name in ("examples", "recipes"):
        (tmp_path / name).symlink_to(ROOT / name)
    ran = 0
    for command, shown in tour.items():
        if re.match(r"skillfactory (curate|build run|sft|grpo|evaluate)\b", command):
            continue
        done = subprocess.run(
            [sys.executable, "-m", *shlex.split(command)], capture_output=True, text=True, cwd=tmp_path, check=True
        )
        said = done.stdout.splitlines()
        missing = [line for line in shown if not any(other.startswith(line.partition("…")[0]) for other in said)]
        assert not missing, f"{command} prints\n{done.stdout}"
        ran += 1
    assert ran == 8


def test_what_the_tour_makes_is_ignored_by_git() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    made = {*re.findall(r"--output (\S+)", text), "traces-trl", "demo"}
    ignored = (ROOT / ".gitignore").read_text("utf-8").splitlines()
    patterns = [line.strip("/") for line in ignored if line.startswith("/")]
    assert not [name for name in made if not any(fnmatch(name, pattern) for pattern in patterns)]


def shown_commands(text: str) -> list[str]:
    """The command lines that a page shows, continued lines joined; synopses with [OPTIONS] or A|B are none."""
    joined = text.replace("\\\n", " ")
    lines = re.findall(r"^(?:[# ]*\$?) *(skillfactory [a-z]+ .*)$", joined, re.MULTILINE)
    return [line for line in lines if not re.search(r"\[|\w\|\w", line)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_that_a_page_shows_is_one_that_the_command_line_takes(page: Path) -> None:
    for line in shown_commands(page.read_text("utf-8")):
        name, *arguments = [word for word in shlex.split(line, comments=True)[1:] if word != "..."]
        config_type = COMMANDS[name].config()
        space, rest = parser(name, COMMANDS[name], config_type).parse_known_args(arguments)
        assert not rest, line
        given(space, config_type)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["buidl"], "skillfactory: unknown command 'buidl'; did you mean 'build'? (known: "),
        (
            ["build", "x", "--max-attempt", "3"],
            "skillfactory build: unknown option '--max-attempt'; did you mean '--max-attempts'? ",
        ),
        (
            ["build", "x", "--max-attempts", "many"],
            "skillfactory build: --max-attempts: expected a whole number, came 'many'\n",
        ),
        (["build"], "skillfactory build: expected an input: "),
        (
            ["curate", "--task", "countdown"],
            "skillfactory curate: --output is missing: give it on the command line, or 'output' in",
        ),
        (["tasks", "countdown", "4"], "skillfactory tasks: '4' is one argument too many"),
        (["tasks", "--level"], "skillfactory tasks: argument --level: expected one argument (see skillfactory tasks --help)\n"),
        (
            ["tasks", "--recipe", "none.yaml"],
            "skillfactory tasks: none.yaml: can't read the recipe: No such file or directory\n",
        ),
        (["tasks", "coutdown"], "skillfactory tasks: unknown task 'coutdown'; did you mean 'countdown'? "),
        (["tasks", "countdown", "--n", "-1"], "skillfactory tasks: n: expected 0 or more questions, came -1\n"),
    ],
)
def test_what_the_user_can_mend_is_one_message_and_exit_code_2(arguments: list[str], message: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_a_bug_shows_its_traceback_and_exit_code_1(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("def task():\n    raise ZeroDivisionError('oh')\n", encoding="utf-8")
    done = run("tasks", "broken:task", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback")
    assert "ZeroDivisionError: oh" in done.stderr


def test_the_console_script_finds_code_of_yours_in_the_current_folder_and_says_where_it_looked(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from skillfactory.tasks.multiplication import Multiplication as Mine\n", encoding="utf-8"
    )
    script = str(Path(sys.executable).with_name("skillfactory"))
    done = subprocess.run([script, "tasks", "mine:Mine"], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    options = ["--task", "countdown", "--questions", "1", "--output", "run", "--engine", "none_such:Engine"]
    for unknown in (["curate", *options], ["tasks", "none_such:Task"]):
        done = subprocess.run([script, *unknown], capture_output=True, text=True, cwd=tmp_path, check=False)
        assert done.returncode == 2
        assert "No module named 'none_such'" in done.stderr
        assert re.search(f"; looked in the installed packages.*, {tmp_path}\n$", done.stderr)


def test_ctrl_c_ends_with_130_and_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        "import time\ndef task():\n    print('here', flush=True)\n    time.sleep(60)\n", encoding="utf-8"
    )
    command = [sys.executable, "-m", "skillfactory", "tasks", "slow:task"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "here\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (130, "skillfactory tasks: stopped.\n")


def test_a_reader_that_leaves_early_is_no_error() -> None:
    command = f"{sys.executable} -m skillfactory tasks countdown --n 20000 --json | head -n 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=ROOT, check=True)
    first, code = done.stdout.splitlines()
    assert json.loads(first)["task"] == "countdown"
    assert (code, done.stderr) == ("0", "")


def test_tasks_lists_every_task_with_its_levels(capsys: pytest.CaptureFixture[str]) -> None:
    from skillfactory.tasks import TASKS

    assert main(["tasks"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "    option use_all: true or false (default: off)" in lines
    assert [line.partition(":")[0] for line in lines if not line.startswith(" ")] == list(TASKS)
    assert main(["tasks", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["task"] for row in rows] == list(TASKS)
    assert all(row["levels"] or row["needs"] for row in rows)


def test_tasks_shows_questions_with_facts_and_answer(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["tasks", "countdown", "--level", "4", "--n", "2", "--seed", "1", "--split", "eval", "--option", "use_all=true"]
    assert main([*command, "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == 2
    assert all(len(row["facts"]["numbers"]) == 4 and row["answer"] for row in rows)
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert all(row["prompt"] in shown and row["answer"] in shown for row in rows)


ANSWERS = """
import hashlib

def answer(request):
    text = str(request.messages)
    if "verdict" in text:
        return "<verdict>" + ("Correct" if "<answer>1" in text else "Incorrect") + "</verdict>"
    return f"I try {request.seed}. <answer>{hashlib.sha1(str(request.seed).encode()).hexdigest()[0]}</answer>"
"""


@pytest.fixture
def run_directory(tmp_path: Path) -> Path:
    """A run of `curate` with the scripted engine."""
    (tmp_path / "answers.py").write_text(ANSWERS, encoding="utf-8")
    options = [
        "--task",
        "multiplication",
        "--questions",
        "3",
        "--engine",
        "scripted",
        "--engine-option",
        "answer=answers:answer",
    ]
    done = run("curate", *options, "--output", str(tmp_path / "run"), PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("curate: 3 questions = 0 kept + 3 dropped (unsolved 3)\ncurate: 192 attempts = ")
    return tmp_path / "run"


def test_every_stage_tells_its_account_as_text_and_as_json(run_directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = run_directory.parent
    rows = [{"facts": {"factors": [12, 34]}, "candidate": answer} for answer in ("408", "409", "")]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"facts": 3}]), encoding="utf-8")
    commands = [
        ["grade", str(folder / "rows.jsonl"), "--task", "multiplication", "--output", str(folder / "graded.jsonl")],
        ["build", str(run_directory), "--output", str(folder / "traces"), "--layout", "random", "--overwrite"],
        ["build", str(ROOT / "examples" / "raw"), "--output", str(folder / "raw"), "--layout", "*C_full", "--overwrite"],
        ["export", str(folder / "raw"), "--to", "chat", "--output", str(folder / "chat")],
    ]
    for command in commands:
        assert main(command) == 0
        said = capsys.readouterr().out.splitlines()
        assert main([*command, "--json"]) == 0
        summary = json.loads(capsys.readouterr().out)
        for line, funnel in zip(said, summary["funnels"], strict=False):
            assert funnel["requested"] == funnel["kept"] + sum(funnel["dropped"].values())
            start = f"{command[0]}: {funnel['requested']:,} {funnel['unit']} = {funnel['kept']:,} kept + "
            assert line.startswith(start)
    assert main(["audit", str(folder / "raw")]) == 0
    assert "120 traces of 24 questions" in capsys.readouterr().out
    assert main(["audit", str(folder / "raw"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["traces"] == 120


def test_an_export_without_an_output_goes_beside_the_traces(tmp_path: Path) -> None:
    assert main(["build", str(ROOT / "examples" / "raw"), "--output", str(tmp_path / "traces")]) == 0
    assert main(["export", str(tmp_path / "traces"), "--to", "chat"]) == 0
    assert (tmp_path / "traces-chat" / "README.md").exists()


def test_results_go_to_stdout_and_progress_to_stderr(tmp_path: Path) -> None:
    quiet = run("build", "examples/raw", "--output", str(tmp_path / "one"))
    shown = run("build", "examples/raw", "--output", str(tmp_path / "two"), "--progress")
    assert (quiet.stderr, quiet.stdout.replace("one", "two")) == ("", shown.stdout)
    assert "build: 100%" in shown.stderr
    assert " attempts/s" in shown.stderr


def test_the_released_scripts_flags_become_ours() -> None:
    given = ["-i", "examples/raw", "-o", "out", "--formats", "*C", "0C", "--num_responses_ignore_correctness", "4"]
    given += ["--prompt_variants_to_use", "original", "rephrase", "--force_unique_prompting_types", "--subsample_size", "9"]
    done = subprocess.run(
        ["bash", "examples/released_script.sh", "--dry-run", *given], capture_output=True, text=True, cwd=ROOT, check=True
    )
    program, *arguments = shlex.split(done.stdout)
    assert program == "skillfactory"
    shown = run(*arguments, "--show-recipe")
    recipe = yaml.safe_load(shown.stdout)["build"]
    assert {
        key: recipe[key] for key in ("inputs", "output", "layout", "max_attempts", "variants", "unique_variants", "limit")
    } == {
        "inputs": ["examples/raw"],
        "output": "out",
        "layout": ["*C = A* C -> answer; n=max", "0C"],
        "max_attempts": 4,
        "variants": ["original", "rephrase"],
        "unique_variants": True,
        "limit": 9,
    }


def test_the_shown_recipe_is_read_back_as_the_same_options_and_flags_override_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "recipe.yaml"
    assert main(["tasks", "countdown", "--level", "5", "--n", "7", "--show-recipe"]) == 0
    text = capsys.readouterr().out
    path.write_text(text, encoding="utf-8")
    assert main(["tasks", "--recipe", str(path), "--show-recipe"]) == 0
    assert capsys.readouterr().out == text
    assert main(["tasks", "--recipe", str(path), "--n", "1", "--show-recipe"]) == 0
    assert yaml.safe_load(capsys.readouterr().out) == {"tasks": {**yaml.safe_load(text)["tasks"], "n": 1}}


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda path: path.name)
def test_shipped_recipes_are_valid(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for stage in yaml.safe_load(path.read_text("utf-8")):
        assert main([stage, "--recipe", str(path), "--show-recipe"]) == 0
