"""The hand-off to LLaMA-Factory in the real package: the export's own check, labels against the exported tokens, a training."""

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from byte_level import made

LIMIT = "2048"  # the context of the embedded model
STEPS = 20
failures: list[str] = []


def say(outcome: str, what: str, detail: str = "") -> None:
    """Prints a finding."""
    if outcome == "failed":
        failures.append(what)
    print(outcome, what, " ".join(detail.split()), sep="\t", flush=True)


def run(*command: str, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    """Runs a command, offline and on one thread."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_HOME": str(Path("hf").resolve())}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=900, check=False)
    print(" ".join(command), done.stdout, done.stderr, sep="\n", file=sys.stderr)
    return done


def last(done: "subprocess.CompletedProcess[str]") -> str:
    """The last line that a command printed, or that it complained with if it failed."""
    said = done.stderr if done.returncode and not done.stdout.strip() else done.stdout
    return ([line for line in said.splitlines() if line.strip()] or ["nothing"])[-1]


def exported(target: str, model: Path) -> Path | None:
    """The folder of an export, if it was made."""
    folder = Path(f"{target}-{model.name}")
    command = ["export", os.environ["TRACES"], "--to", target, "--model", str(model), "--max-length", LIMIT]
    done = run(os.environ["SKILLFACTORY"], *command, "--output", str(folder))
    if done.returncode:
        say("failed", f"export {target}", last(done))
        return None
    return folder


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """The rows of an export, in order."""
    import pyarrow.parquet as pq

    return [row for part in sorted((folder / "data").glob("*.parquet")) for row in pq.read_table(part).to_pylist()]


def checked(folder: Path, what: str) -> None:
    """The export's own check passes, and finds a template that is another model's."""
    done = run(sys.executable, "check.py", cwd=folder)
    say("failed" if done.returncode else "ok", f"tokens of the chat template, {what}", last(done))
    text = (folder / "sft.yaml").read_text("utf-8")
    (folder / "other.yaml").write_text(text + "template: qwen\n", "utf-8")
    done = run(sys.executable, "check.py", "other.yaml", cwd=folder)
    found = done.returncode == 1 and "have other tokens than the model's chat template" in done.stdout
    say("ok" if found else "failed", f"a template of another model is found, {what}", "template: qwen" if found else last(done))


def bare(folder: Path, model: Path) -> None:
    """The export's own check finds a chat template that LLaMA-Factory takes apart wrongly: one that never opens a turn."""
    copy = Path("without-opening")
    shutil.copytree(model, copy)
    template = (copy / "chat_template.jinja").read_text("utf-8")
    (copy / "chat_template.jinja").write_text(template[: template.index("{%- if add_generation_prompt")], "utf-8")
    said = recipe(str(folder / "sft.yaml")) | {"model_name_or_path": str(copy.resolve())}
    (folder / "bare.yaml").write_text(json.dumps(said), "utf-8")
    done = run(sys.executable, "check.py", "bare.yaml", cwd=folder)
    found = done.returncode == 1 and "would be trained from elsewhere than their answer's first token" in done.stdout
    say("ok" if found else "failed", "a chat template without an opening is found", "" if found else last(done))


def labelled(folder: Path, model: Path, what: str, ends: str) -> None:
    """LLaMA-Factory's own data set has the labels of the exported tokens, but for the text `ends` after the end token."""
    tokens = exported("tokens", model)
    if tokens is None:
        return
    from transformers import AutoTokenizer

    tail = AutoTokenizer.from_pretrained(model)(ends, add_special_tokens=False)["input_ids"]
    here = Path.cwd()
    os.chdir(folder)
    with redirect_stdout(sys.stderr):  # it prints an example
        made_there = encoded()
    os.chdir(here)
    ours = [(row["input_ids"], row["labels"]) for row in rows_of(tokens)]
    wanted = sorted((ids, labels[: len(labels) - len(tail)] + tail) for ids, labels in ours)
    found = sorted((row["input_ids"], row["labels"]) for row in made_there)  # it reads the files of a folder in any order
    same = sum(left == right for left, right in zip(found, wanted, strict=False))
    trained = sum(label != -100 for _, labels in wanted for label in labels)
    but = ", but for the line break after the end token, which is trained too" if tail else ""
    detail = f"{same:,} of {len(wanted):,} rows as in the target tokens{but}; {trained:,} tokens trained"
    say("ok" if same == len(wanted) == len(found) else "failed", f"labels, {what}", detail)


def encoded() -> Any:
    """The data set that LLaMA-Factory would train on, of the recipe in the current folder."""
    from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
    from llamafactory.hparams import get_train_args
    from llamafactory.model import load_tokenizer

    model, data, training, _, _ = get_train_args(recipe("sft.yaml") | {"use_cpu": True, "output_dir": "unused"})
    module = load_tokenizer(model)
    template = get_template_and_fix_tokenizer(module["tokenizer"], data)
    return get_dataset(template, model, data, training, stage="sft", **module)["train_dataset"]


def recipe(name: str) -> dict[str, Any]:
    """A YAML file of options."""
    import yaml

    found: dict[str, Any] = yaml.safe_load(Path(name).read_text("utf-8"))
    return found


def trained(folder: Path) -> None:
    """LLaMA-Factory's command trains on the folder and leaves a model whose weights have moved."""
    text = (folder / "sft.yaml").read_text("utf-8") + f"use_cpu: true\nmax_steps: {STEPS}\n"
    (folder / "cpu.yaml").write_text(text, "utf-8")
    done = run(str(Path(sys.executable).with_name("llamafactory-cli")), "train", "cpu.yaml", cwd=folder)
    if done.returncode or not (folder / "model" / "model.safetensors").exists():
        say("failed", "llamafactory-cli train", last(done))
        return
    from safetensors.torch import load_file

    before = load_file(Path(os.environ["MINI"]) / "model.safetensors")
    after = load_file(folder / "model" / "model.safetensors")
    moved = sum(not before[name].float().equal(after[name].float()) for name in before)
    found = json.loads((folder / "model" / "train_results.json").read_text("utf-8"))
    detail = f"{STEPS} steps on a CPU, loss {found['train_loss']:.3f}; {moved} of {len(before)} tensors moved"
    say("ok" if moved == len(before) == len(after) else "failed", "llamafactory-cli train", detail)


def tokenised() -> None:
    """LLaMA-Factory's command trains on exported tokens, saved to disk as their README has it."""
    from datasets import DatasetDict, load_dataset

    tokens = exported("tokens", Path(os.environ["MINI"]))
    if tokens is None:
        return
    folder = Path("tokenised")
    rows = load_dataset("parquet", data_files=str(tokens / "data" / "*.parquet"), split="train", cache_dir="cache")
    DatasetDict({"train": rows.select_columns(["input_ids", "labels", "attention_mask"])}).save_to_disk(folder / "tokenized")
    options = (
        "stage: sft\ndo_train: true\nfinetuning_type: full\ntokenized_path: tokenized\ndataset: tokens\noutput_dir: model\n"
    )
    text = f"{options}model_name_or_path: {os.environ['MINI']}\nuse_cpu: true\nmax_steps: 2\nreport_to: none\n"
    (folder / "cpu.yaml").write_text(text, "utf-8")
    done = run(str(Path(sys.executable).with_name("llamafactory-cli")), "train", "cpu.yaml", cwd=folder)
    there = not done.returncode and (folder / "model" / "model.safetensors").exists()
    detail = f"2 steps on {len(rows):,} rows of the target tokens" if there else last(done)
    say("ok" if there else "failed", "train with tokenized_path", detail)


def main() -> int:
    """Prints what is found; 1 if anything failed."""
    for package in ("llamafactory", "transformers", "trl", "datasets", "torch"):
        say("version", package, importlib.metadata.version(package))
    mini, merging = Path(os.environ["MINI"]), made(Path("byte-level"))
    for model, what, ends in ((mini, "the embedded model", ""), (merging, "a byte-level BPE", "\n")):
        folder = exported("llamafactory", model)
        if folder is not None:
            checked(folder, what)
            labelled(folder, model, what, ends)
            if model == mini:
                bare(folder, model)
                trained(folder)
    tokenised()
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
