"""Exports: nothing is lost or cut, trainers' own readers read them, and what stands in the output is safe."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from silver import simple, write
from tiny_model import save_tiny_model

from skillfactory.embedded import located
from skillfactory.errors import ConfigError, InputError
from skillfactory.export import OF_QUESTIONS, TARGETS, USED_BY, ExportConfig, Summary, Written, export
from skillfactory.progress import Progress
from skillfactory.tracefiles import TraceFiles

# Targets that write every chat as it is, in one column; the others have tests of their own.
COLUMN = {"chat": "messages", "llamafactory": "conversations", "trl": "messages"}


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    """Ten traces in three parts: lengths 100, 5,000 and unknown in turn."""
    return write(tmp_path / "traces", simple(10, (100, 5000, None)), parts=3)


def chats(directory: Path) -> list[Any]:
    """The conversations of a directory of traces, in order."""
    parts = sorted((directory / "traces").glob("*.parquet"))
    return [turns for part in parts for turns in pq.read_table(part)["conversations"].to_pylist()]


def rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of an export, in order."""
    return [row for part in sorted((folder / "data").iterdir()) for row in pq.read_table(part).to_pylist()]


def run(traces: Path, to: str, output: Path, **options: Any) -> Summary:
    return export(ExportConfig(traces, to, output, **options))


@pytest.mark.parametrize("to", COLUMN)
def test_every_chat_arrives_whole_and_in_order(to: str, traces: Path, tmp_path: Path) -> None:
    found = run(traces, to, tmp_path / "out", max_length=9000)
    assert [row[COLUMN[to]] for row in rows(tmp_path / "out")] == chats(traces)
    assert found.funnel.to_dict() == {"stage": "export", "unit": "traces", "requested": 10, "kept": 10, "dropped": {}}
    assert set(found.files) == {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.*")}
    assert "10 rows" in (tmp_path / "out" / "README.md").read_text("utf-8")


@pytest.mark.parametrize("to", COLUMN)
def test_an_export_is_a_folder_that_datasets_and_pandas_read(to: str, traces: Path, tmp_path: Path) -> None:
    from datasets import load_dataset

    run(traces, to, tmp_path / "out", max_length=9000)
    loaded = load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded[COLUMN[to]][:] == chats(traces)
    frame = pd.read_parquet(tmp_path / "out" / "data")
    assert [list(turns) for turns in frame[COLUMN[to]]] == chats(traces)


def test_jsonl_holds_the_same_rows(traces: Path, tmp_path: Path) -> None:
    from datasets import load_dataset

    for form in ("parquet", "jsonl"):
        run(traces, "chat", tmp_path / form, format=form)
    lines = [json.loads(line) for part in sorted((tmp_path / "jsonl" / "data").iterdir()) for line in part.open()]
    assert lines == rows(tmp_path / "parquet")
    loaded = load_dataset(str(tmp_path / "jsonl"), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded["messages"][:] == chats(traces)
    assert [
        list(turns) for turns in pd.read_json(tmp_path / "jsonl" / "data" / "train-00000-of-00003.jsonl", lines=True).messages
    ]


def test_provenance_is_kept_unless_it_is_not_wanted(traces: Path, tmp_path: Path) -> None:
    run(traces, "chat", tmp_path / "with")
    run(traces, "chat", tmp_path / "without", provenance=False)
    kept = rows(tmp_path / "with")[0]
    text = kept["messages"][1]["content"]
    assert text[kept["segments"][-1]["start"] : kept["segments"][-1]["end"]] == kept["answer"] == "5 + 2"
    assert list(rows(tmp_path / "without")[0]) == ["messages"]


@pytest.mark.parametrize("to", ["llamafactory", "trl"])
def test_traces_that_a_trainer_would_cut_are_refused(to: str, traces: Path, tmp_path: Path) -> None:
    message = r"3 of 10 traces are longer than 4,096 tokens \(the longest has 5,000\), and .* would cut them; build with"
    with pytest.raises(InputError, match=message):
        run(traces, to, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("to", COLUMN)
def test_traces_over_the_length_are_left_out_on_demand_and_counted(to: str, traces: Path, tmp_path: Path) -> None:
    model = {} if to == "chat" else {"model": "some/model"}
    found = run(traces, to, tmp_path / "out", max_length=4999, drop_long=True, **model)
    assert found.to_dict()["funnels"][0]["dropped"] == {"over_max_length": 3}
    assert len(rows(tmp_path / "out")) == 7
    every = {
        row["trace_id"]
        for row in pq.read_table(traces / "traces", columns=["trace_id", "tokens"]).to_pylist()
        if row["tokens"] == 5000
    }
    drops = pq.read_table(tmp_path / "out" / "drops").to_pylist()
    assert {drop["subject_id"] for drop in drops} == every
    assert {(drop["stage"], drop["reason"], drop["detail"]) for drop in drops} == {("export", "over_max_length", "5000 tokens")}
    account = json.loads((tmp_path / "out" / "export.json").read_text("utf-8"))
    assert account["funnels"] == found.to_dict()["funnels"]
    assert found.notes == (
        "3 traces have no token count, so whether they fit into 4,999 tokens is not checked; build with --tokenizer to count",
    )


def test_an_export_of_no_trace_is_an_error_and_writes_nothing(tmp_path: Path) -> None:
    traces = write(tmp_path / "traces", simple(2, (100,)))
    with pytest.raises(InputError, match="no trace is left to export: over_max_length 2"):
        run(traces, "chat", tmp_path / "out", max_length=9, drop_long=True)
    assert not (tmp_path / "out").exists()


def test_a_length_of_exactly_the_limit_fits(traces: Path, tmp_path: Path) -> None:
    assert run(traces, "trl", tmp_path / "out", max_length=5000).funnel.kept == 10


def test_llamafactory_gets_its_data_set_and_the_papers_settings(traces: Path, tmp_path: Path) -> None:
    run(traces, "llamafactory", tmp_path / "out", max_length=16384, model="some/model", template="llama3")
    info = json.loads((tmp_path / "out" / "dataset_info.json").read_text("utf-8"))
    options = yaml.safe_load((tmp_path / "out" / "sft.yaml").read_text("utf-8"))
    described = info[options["dataset"]]
    assert {path.suffix for path in (tmp_path / "out" / options["dataset_dir"] / described["file_name"]).iterdir()} == {
        ".parquet"
    }
    turn = rows(tmp_path / "out")[0][described["columns"]["messages"]][1]
    assert turn[described["tags"]["role_tag"]] == described["tags"]["assistant_tag"]
    assert turn[described["tags"]["content_tag"]].startswith("<think>")
    paper = {"learning_rate": 1e-6, "lr_scheduler_type": "cosine", "warmup_ratio": 0.05, "num_train_epochs": 2, "bf16": True}
    paper |= {"adam_beta1": 0.9, "adam_beta2": 0.95, "weight_decay": 1e-4, "per_device_train_batch_size": 1}
    assert {key: options[key] for key in paper} == paper
    assert (options["cutoff_len"], options["model_name_or_path"], options["template"]) == (16384, "some/model", "llama3")
    shared = json.loads((tmp_path / "out" / "deepspeed.json").read_text("utf-8"))
    assert (shared["zero_optimization"]["stage"], "deepspeed" in options) == (3, False)
    assert "`deepspeed: deepspeed.json`" in (tmp_path / "out" / "README.md").read_text("utf-8")


def test_llamafactory_takes_the_models_own_template_unless_told_another(traces: Path, tmp_path: Path) -> None:
    run(traces, "llamafactory", tmp_path / "out", max_length=9000)
    assert "template" not in yaml.safe_load((tmp_path / "out" / "sft.yaml").read_text("utf-8"))


@pytest.mark.parametrize("to", sorted({*TARGETS, *OF_QUESTIONS} - {*USED_BY["mask"]}))
def test_a_mask_that_a_target_has_no_form_for_is_refused_with_those_that_have(to: str, traces: Path, tmp_path: Path) -> None:
    others = ", ".join(f"--to {name}" for name in USED_BY["mask"])
    message = f"mask: the target {to} can't leave attempts out of the loss; {others} can with --mask wrong, and so can"
    with pytest.raises(ConfigError, match=message):
        run(traces, to, tmp_path / "out", mask="wrong")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("to", "file", "key"),
    [
        ("trl", "export.json", "model"),
        ("llamafactory", "sft.yaml", "model_name_or_path"),
        ("axolotl", "sft.yaml", "base_model"),
    ],
)
def test_a_local_model_is_named_by_its_way_from_the_folder_and_a_hub_id_as_it_is(
    to: str, file: str, key: str, traces: Path, tmp_path: Path
) -> None:
    (tmp_path / "models" / "mine").mkdir(parents=True)
    local = {os.path.relpath(tmp_path / "models" / "mine"): "../models/mine"}
    local["mini"] = os.path.relpath(Path(located("mini")).resolve(), tmp_path.resolve() / "out")
    for model, named in (local | {"some/model": "some/model"}).items():
        run(traces, to, tmp_path / "out", max_length=9000, model=model)
        said = yaml.safe_load((tmp_path / "out" / file).read_text("utf-8"))
        assert said[key] == named


def test_an_output_that_no_export_wrote_is_left_alone(traces: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("precious")
    with pytest.raises(InputError, match=r"not empty, and no export\.json says that an export wrote it"):
        run(traces, "chat", tmp_path / "out")
    run(traces, "chat", tmp_path / "out", force=True)
    assert (tmp_path / "out" / "thesis.tex").read_text() == "precious"
    assert len(rows(tmp_path / "out")) == 10


@pytest.mark.parametrize("mark", ["build.json", "run.json"])
def test_traces_and_runs_are_never_written_into(mark: str, traces: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / mark).write_text("{}")
    (tmp_path / "out" / "README.md").write_text("the card")
    with pytest.raises(
        InputError, match=r"out: holds what `skillfactory (build|curate)` wrote, whose files would go; choose another"
    ):
        run(traces, "chat", tmp_path / "out", force=True)
    assert (tmp_path / "out" / "README.md").read_text() == "the card"


@pytest.mark.parametrize(
    ("to", "options", "note"),
    [
        ("trl", {"format": "jsonl"}, "format has no effect on the target trl; it is an option of chat"),
        ("chat", {"model": "m"}, "model has no effect on the target chat; it is an option of axolotl and llamafactory and "),
        ("trl", {"template": "t"}, "template has no effect on the target trl; it is an option of llamafactory"),
    ],
)
def test_an_option_that_the_target_has_no_use_for_is_noted(
    to: str, options: Mapping[str, Any], note: str, traces: Path, tmp_path: Path
) -> None:
    assert any(each.startswith(note) for each in run(traces, to, tmp_path / "out", max_length=9000, **options).notes)


def test_a_new_export_replaces_the_files_of_the_last_and_no_others(traces: Path, tmp_path: Path) -> None:
    run(traces, "llamafactory", tmp_path / "out", max_length=9000)
    (tmp_path / "out" / "model").mkdir()
    (tmp_path / "out" / "model" / "weights").write_text("trained for days")
    run(traces, "chat", tmp_path / "out", provenance=False)
    assert (tmp_path / "out" / "model" / "weights").exists()
    assert not (tmp_path / "out" / "sft.yaml").exists()
    assert list(rows(tmp_path / "out")[0]) == ["messages"]


def test_an_account_cannot_make_an_export_delete_elsewhere(traces: Path, tmp_path: Path) -> None:
    (tmp_path / "safe.txt").write_text("safe")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "export.json").write_text(json.dumps({"command": "export", "files": ["../safe.txt"]}))
    run(traces, "chat", tmp_path / "out")
    assert (tmp_path / "safe.txt").exists()


def half(source: TraceFiles, folder: Path, config: ExportConfig, progress: Progress) -> Written:
    """A target that fails in the middle."""
    (folder / "half").write_text("x")
    raise InputError("the disk of the trainer is full")


def names(source: TraceFiles, folder: Path, config: ExportConfig, progress: Progress) -> Written:
    """A user's target."""
    (folder / "names.txt").write_text("\n".join(str(part.name) for part in source.parts))
    return Written(source.rows)


def test_an_export_that_fails_changes_nothing(traces: Path, tmp_path: Path) -> None:
    run(traces, "chat", tmp_path / "out")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match="the disk of the trainer is full"):
        run(traces, "test_export:half", tmp_path / "out")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_users_target_is_named_by_its_module(traces: Path, tmp_path: Path) -> None:
    assert run(traces, "test_export:names", tmp_path / "out").files == ("export.json", "names.txt")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"to": "lamafactory"}, "unknown export target 'lamafactory'; did you mean 'llamafactory'"),
        ({"to": "test_export:nothing"}, "the export target 'test_export:nothing' can't be imported"),
        ({"to": "chat", "drop_long": True}, "drop_long needs a length to drop by: --max-length N"),
        ({"to": "chat", "max_length": 0}, "max_length: expected a number above 0, came 0"),
    ],
)
def test_a_wrong_option_is_named(options: Mapping[str, Any], message: str, traces: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        export(ExportConfig(traces, output=tmp_path / "out", **options))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model whose chat template has no markers of the assistant's tokens."""
    return save_tiny_model(tmp_path_factory.mktemp("model"), context=2048, hidden=16)


def script(folder: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    """Runs an export's training script, offline."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(folder / "cache")}
    command = [sys.executable, "sft.py", *options]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False)


def test_the_trl_script_trains_on_the_export(model: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    traces = write(tmp_path / "traces", simple(4, (None,)))
    run(traces, "trl", tmp_path / "out", max_length=2000, model=os.path.relpath(model))
    done = script(
        tmp_path / "out",
        "--chat-template",
        "chatml.jinja",
        "--eos-token",
        "<|im_end|>",
        "--max-steps",
        "2",
        "--learning-rate",
        "0.1",
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "4 rows = 4 kept + 0 over 2,000 tokens; 8" in done.stdout
    assert "2 steps, mean loss" in done.stdout
    before, after = (AutoModelForCausalLM.from_pretrained(path) for path in (model, tmp_path / "out" / "model"))
    assert not before.lm_head.weight.equal(after.lm_head.weight)
    assert AutoTokenizer.from_pretrained(tmp_path / "out" / "model").eos_token == "<|im_end|>"


def test_the_trl_script_drops_and_refuses_what_would_train_wrongly(model: Path, tmp_path: Path) -> None:
    from datasets import Dataset
    from transformers import AutoTokenizer

    from skillfactory.export.trl import CHATML
    from skillfactory.export.trl_sft import fitting, training_template

    tokenizer = AutoTokenizer.from_pretrained(model)
    with pytest.raises(SystemExit, match=r"no {% generation %} markers and TRL knows no version with them"):
        training_template(tokenizer, None)
    data = Dataset.from_dict({"messages": chats(write(tmp_path / "traces", simple(3)))})
    template = tmp_path / "template.jinja"

    def kept(text: str, limit: int = 2000) -> int:
        template.write_text(text, "utf-8")
        tokenizer.chat_template = training_template(tokenizer, template)
        return len(fitting(data, tokenizer, limit))

    assert kept(CHATML) == 3
    with pytest.raises(SystemExit, match="no row has at most 100 tokens; the shortest has"):
        kept(CHATML, 100)
    with pytest.raises(SystemExit, match="the chat template drops a part of the assistant turn"):
        kept(
            CHATML.replace("{{ message.content + '<|im_end|>' }}{% endg", "{{ message.content.split('</think>')[-1] }}{% endg")
        )
    with pytest.raises(SystemExit, match="the chat template adds a <think> of its own"):
        kept(CHATML.replace("{% generation %}", "{% generation %}<think></think>"))
    with pytest.raises(SystemExit, match=r"uses <\|eot_id\|>, which is no token of this model"):
        kept(CHATML.replace("<|im_end|>", "<|eot_id|>"))
    with pytest.raises(SystemExit, match="3 of 3 rows would train on none or on all of their tokens"):
        kept(CHATML.replace("{% if message.role == 'assistant' %}", "{% if message.role == 'nobody' %}"))


def test_the_assistants_end_of_turn_is_trained_and_the_prompt_is_not(model: Path) -> None:
    from transformers import AutoTokenizer

    from skillfactory.export.trl import CHATML

    tokenizer = AutoTokenizer.from_pretrained(model)
    chat = [{"role": "user", "content": "Ask"}, {"role": "assistant", "content": "<think>\nA\n</think>"}]
    found = tokenizer.apply_chat_template(chat, chat_template=CHATML, return_dict=True, return_assistant_tokens_mask=True)
    trained = [token for token, mark in zip(found["input_ids"], found["assistant_masks"], strict=True) if mark]
    assert tokenizer.decode(trained) == "<think>\nA\n</think><|im_end|>"
