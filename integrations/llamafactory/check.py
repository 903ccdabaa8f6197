"""The hand-off to LLaMA-Factory in the real package: the export's own check, labels against the exported tokens, a training."""

import importlib.metadata
import json
import os
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

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


def exported(target: str, folder: str, *options: str) -> Path | None:
    """The folder of an export, if it was made."""
    program, traces, mini = (os.environ[name] for name in ("SKILLFACTORY", "TRACES", "MINI"))
    command = ["export", traces, "--to", target, "--model", mini, "--max-length", LIMIT, "--output", folder, *options]
    done = run(program, *command)
    if done.returncode:
        say("failed", f"export {target}", last(done))
        return None
    return Path(folder)


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """The rows of an export, in order."""
    import pyarrow.parquet as pq

    return [row for part in sorted((folder / "data").glob("*.parquet")) for row in pq.read_table(part).to_pylist()]


def checked(folder: Path) -> None:
    """The export's own check passes, and finds a template that is another model's."""
    done = run(sys.executable, "check.py", cwd=folder)
    say("failed" if done.returncode else "ok", "tokens of the chat template", last(done))
    other = (folder / "sft.yaml").read_text("utf-8") + "template: qwen\n"
    (folder / "other.yaml").write_text(other, "utf-8")
    done = run(sys.executable, "check.py", "other.yaml", cwd=folder)
    found = done.returncode == 1 and "have other tokens than the model's chat template" in done.stdout
    say("ok" if found else "failed", "a template of another model is found", "template: qwen" if found else last(done))


def labelled(folder: Path) -> None:
    """LLaMA-Factory's own data set, from its loader and its processor, has the labels of the exported tokens."""
    tokens = exported("tokens", "tokens")
    if tokens is None:
        return
    here = Path.cwd()
    os.chdir(folder)
    with redirect_stdout(sys.stderr):  # it prints an example
        made = encoded()
    os.chdir(here)
    # sorted, as it reads the files of a folder in any order
    pairs = [sorted((row["input_ids"], row["labels"]) for row in rows) for rows in (made, rows_of(tokens))]
    wanted = pairs[1]
    same = sum(found == want for found, want in zip(*pairs, strict=True))
    trained = sum(label != -100 for _, labels in wanted for label in labels)
    outcome = "ok" if same == len(wanted) else "failed"
    say(outcome, "labels, token for token", f"{same:,} of {len(wanted):,} rows as in the target tokens; {trained:,} trained")


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


def main() -> int:
    """Prints what is found; 1 if anything failed."""
    for package in ("llamafactory", "transformers", "trl", "datasets", "torch"):
        say("version", package, importlib.metadata.version(package))
    folder = exported("llamafactory", "llamafactory")
    if folder is not None:
        checked(folder)
        labelled(folder)
        trained(folder)
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
