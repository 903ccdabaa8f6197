"""What exports say is so: the model they name, the lengths they count on, trainings that don't go on from other rows."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from silver import simple, write
from tiny_model import save_tiny_model

from skillfactory.embedded import located
from skillfactory.errors import InputError
from skillfactory.export import OF_QUESTIONS, TARGETS, USED_BY, ExportConfig, Summary, export
from skillfactory.export.target import PAPER_MODEL, Wanted, model_from

SFT = ("axolotl", "llamafactory", "open-instruct", "openrlhf", "trl", "verl-sft")
CUTTING = (
    "llamafactory",
    "open-instruct",
    "openrlhf",
)  # these leave rows over the length to be cut, and don't count themselves
DOCS = Path(__file__).resolve().parents[1] / "docs"


def made(folder: Path, *models: str, count: int = 3, **settings: Any) -> Path:
    """Traces of runs of these models, or of no known run."""
    traces = write(folder / "traces", simple(count))
    runs = [folder / f"run-{number}" for number in range(len(models))]
    for run, model in zip(runs, models, strict=True):
        run.mkdir()
        (run / "run.json").write_text(json.dumps({"command": "curate", "model": model}), "utf-8")
    account = {"command": "build", "settings": {"inputs": [str(run) for run in runs], **settings}}
    (traces / "build.json").write_text(json.dumps(account), "utf-8")
    return traces


def run(source: Path, to: str, output: Path, **options: Any) -> Summary:
    if to in OF_QUESTIONS:
        options["wanted"] = Wanted(("multiplication:2",), questions=options.pop("questions", 4), validation=2)
    return export(ExportConfig(source, to, output, **options))


def readme(folder: Path) -> str:
    """The README of a folder as one line, however it is broken."""
    return " ".join((folder / "README.md").read_text("utf-8").split())


@pytest.mark.parametrize("to", USED_BY["model"])
def test_the_model_is_that_of_the_runs_and_the_readme_says_so_as_it_can_be_loaded(to: str, tmp_path: Path) -> None:
    found = run(made(tmp_path, "mini", "mini"), to, tmp_path / "out", max_length=900)
    model = model_from(ExportConfig(Path(), to, tmp_path / "out", model="mini"))
    assert (tmp_path / "out" / model / "config.json").is_file()
    assert f"`{model}`" in readme(tmp_path / "out")
    assert PAPER_MODEL not in readme(tmp_path / "out")
    assert "`mini`" not in readme(tmp_path / "out")
    assert not [note for note in found.notes if "--model" in note]


@pytest.mark.parametrize(
    ("models", "expected"),
    [
        (["some/model"], "some/model"),
        (["some/model (dtype=bfloat16, exact=False)"], "some/model"),
        (["some/model", "other/model"], ""),
        (["some/model (revision=abc)"], ""),
        (["base (files 0123456789ab)"], ""),
        (["mini (files 0123456789ab)"], ""),
        (["scripted"], ""),
        (["/gone/away"], ""),
        ([], ""),
    ],
)
def test_a_model_that_a_trainer_could_not_load_gives_way_to_the_papers_with_a_note(
    models: list[str], expected: str, tmp_path: Path
) -> None:
    traces = made(tmp_path, *models)
    found = run(traces, "llamafactory", tmp_path / "out")
    recipe = yaml.safe_load((tmp_path / "out" / "sft.yaml").read_text("utf-8"))
    assert recipe["model_name_or_path"] == (expected or PAPER_MODEL)
    noted = [
        note for note in found.notes if note.endswith(f"the files name the paper's, {PAPER_MODEL}; --model NAME names another")
    ]
    assert len(noted) == (0 if expected else 1)
    assert all(model in noted[0] for model in models if not expected)
    assert run(traces, "chat", tmp_path / "chat").notes == ()
    assert run(traces, "llamafactory", tmp_path / "told", model="told/model").notes == ()


@pytest.mark.parametrize("to", SFT)
def test_lengths_counted_with_another_tokenizer_promise_nothing(to: str, tmp_path: Path) -> None:
    traces = made(tmp_path, tokenizer="mini")
    promise = "No row that was counted is longer than 4,096 tokens."
    for model in ("mini", str(located("mini"))):
        assert run(traces, to, tmp_path / "same", model=model).notes == ()
        assert (promise in readme(tmp_path / "same")) == (to in CUTTING)
    for model in ("other/model", str(save_tiny_model(tmp_path / "tiny", context=64, hidden=16))):
        (note,) = run(traces, to, tmp_path / "other", model=model).notes
        assert note.startswith(f"the tokens were counted with another tokenizer than that of {model}, so whether")
        assert note.endswith(f"build again with --tokenizer {model}")
        assert promise not in readme(tmp_path / "other")
        if to in CUTTING:
            assert "**Careful:** the tokens were counted with another tokenizer" in readme(tmp_path / "other")


def test_llamafactory_never_goes_on_from_checkpoints_that_it_finds(tmp_path: Path) -> None:
    run(made(tmp_path), "llamafactory", tmp_path / "out")
    assert yaml.safe_load((tmp_path / "out" / "sft.yaml").read_text("utf-8"))["overwrite_output_dir"] is True
    assert "Each training begins anew" in readme(tmp_path / "out")


@pytest.mark.parametrize("to", ["verl", "verl-sft"])
def test_the_checkpoints_of_verl_belong_to_the_rows_and_the_options(to: str, tmp_path: Path) -> None:
    few, more = made(tmp_path / "few"), made(tmp_path / "more", count=4)

    def place(source: Path, questions: int = 4, model: str = "some/model") -> str:
        asked = {"questions": questions} if to == "verl" else {}
        run(source, to, tmp_path / "out", model=model, **asked)
        lines = (tmp_path / "out" / "overrides.txt").read_text("utf-8").splitlines()
        (found,) = (line for line in lines if line.startswith("trainer.default_local_dir="))
        assert re.fullmatch(r'trainer\.default_local_dir="@HERE@/checkpoints/[0-9a-f]{12}"', found)
        return found

    first, longer, other, again = (
        place(few),
        place(more, questions=8),
        place(few, model="other/model"),
        place(few),
    )
    assert first == again
    assert len({first, longer, other}) == 3
    assert "`trainer.resume_mode=disable` to begin anew" in readme(tmp_path / "out")


def test_an_export_beside_the_work_of_a_training_is_noted(tmp_path: Path) -> None:
    traces = made(tmp_path)
    (tmp_path / "out" / "model").mkdir(parents=True)
    (tmp_path / "out" / "model" / "weights").write_text("mine")
    assert run(traces, "trl", tmp_path / "out", model="some/model", force=True).notes == ()
    (tmp_path / "out" / "checkpoints").mkdir()
    (note,) = run(traces, "trl", tmp_path / "out", model="some/model").notes
    assert f"{tmp_path / 'out'} holds model/ and checkpoints/ of a training on what an earlier export wrote there" in note
    assert (tmp_path / "out" / "model" / "weights").read_text() == "mine"


@pytest.mark.parametrize("to", sorted(TARGETS))
def test_a_run_in_place_of_traces_is_told_how_to_become_some(to: str, tmp_path: Path) -> None:
    if to == "hub":  # asks the Hub before it looks at the traces
        return
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text(json.dumps({"command": "curate", "model": "mini"}), "utf-8")
    told = f"a run of `skillfactory curate`, and no traces; make them: skillfactory build {tmp_path / 'run'} --output TRACES"
    with pytest.raises(InputError, match=re.escape(told)):
        run(tmp_path / "run", to, tmp_path / "out")


def test_the_help_names_every_target() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "skillfactory", "export", "--help"], capture_output=True, text=True, check=True
    )
    text = " ".join(done.stdout.split()).replace("- ", "-")  # a name may be broken at its hyphen
    assert ", ".join(sorted([*TARGETS, *OF_QUESTIONS])) in text
    assert "for reinforcement the length of a response" in text


def test_the_tokens_of_a_model_name_one_that_the_trainer_finds(tmp_path: Path) -> None:
    run(made(tmp_path), "tokens", tmp_path / "out", model="mini")
    model = model_from(ExportConfig(Path(), "tokens", tmp_path / "out", model="mini"))
    assert f"SFTTrainer(model={model!r}, " in readme(tmp_path / "out")
    assert "on a CPU add `bf16=False`" in readme(tmp_path / "out")


def test_the_commands_of_the_trainers_page_stay_where_they_are() -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```", (DOCS / "trainers.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) > 8
    assert not [line for block in blocks for line in block.splitlines() if line.startswith("cd ")]
