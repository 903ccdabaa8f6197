"""The hand-off to axolotl in the real package: its schema, its labels against the exported tokens, a training with a mask."""

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from byte_level import made

LIMIT = "2048"  # the context of the embedded model
STEPS = 20
MASKS = ("none", "wrong", "all-but-last")
failures: list[str] = []


def say(outcome: str, what: str, detail: str = "") -> None:
    """Prints a finding."""
    if outcome == "failed":
        failures.append(what)
    print(outcome, what, " ".join(detail.split()), sep="\t", flush=True)


def run(*command: str, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    """Runs a command in this process's environment."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=900, check=False)
    print(" ".join(command), done.stdout, done.stderr, sep="\n", file=sys.stderr)
    return done


def last(done: "subprocess.CompletedProcess[str]") -> str:
    """The last line that a command said."""
    return ([line for line in (done.stdout + done.stderr).splitlines() if line.strip()] or ["nothing"])[-1]


def exported(target: str, model: Path, mask: str) -> Path | None:
    """The folder of an export, if it was made."""
    folder = Path(f"{target}-{model.name}-{mask}")
    command = ["export", os.environ["TRACES"], "--to", target, "--mask", mask, "--max-length", LIMIT, "--model", str(model)]
    done = run(os.environ["SKILLFACTORY"], *command, "--output", str(folder))
    if done.returncode:
        say("failed", f"export {target}, mask {mask}", last(done))
        return None
    return folder


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """The rows of an export, in order."""
    import pyarrow.parquet as pq

    return [row for part in sorted((folder / "data").glob("*.parquet")) for row in pq.read_table(part).to_pylist()]


def recipe(folder: Path) -> dict[str, Any]:
    """The options that an export says."""
    import yaml

    found: dict[str, Any] = yaml.safe_load((folder / "sft.yaml").read_text("utf-8"))
    return found


def known(folder: Path) -> None:
    """Every key of the recipe is one of axolotl's: others it would pass over in silence."""
    from axolotl.utils.schemas.config import AxolotlInputConfig
    from axolotl.utils.schemas.datasets import SFTDataset

    said = recipe(folder)
    odd = [key for key in said if key not in AxolotlInputConfig.model_fields]
    odd += [f"datasets: {key}" for key in said["datasets"][0] if key not in SFTDataset.model_fields]
    detail = f"unknown: {', '.join(odd)}" if odd else f"{len(said)} keys, {len(said['datasets'][0])} of the data set"
    say("failed" if odd else "ok", "keys of the recipe", detail)


def encoded(folder: Path) -> list[tuple[list[int], list[int]]]:
    """Ids and labels of what axolotl would train on, from its own configuration and loader; sorted, as it shuffles."""
    here, findings = Path.cwd(), os.dup(1)
    os.chdir(folder)
    os.dup2(2, 1)  # it and its processes print much
    from axolotl.cli.config import load_cfg
    from axolotl.common.datasets import load_datasets

    made = load_datasets(cfg=load_cfg("sft.yaml", bf16=False)).train_dataset
    rows = sorted((list(row["input_ids"]), list(row["labels"])) for row in made)
    os.dup2(findings, 1)
    os.chdir(here)
    return rows


def compared(model: Path, what: str) -> None:
    """axolotl's labels are those of the target tokens, for every mask."""
    for mask in MASKS:
        theirs, ours = exported("axolotl", model, mask), exported("tokens", model, mask)
        if theirs is None or ours is None:
            continue
        found = encoded(theirs)
        wanted = sorted((row["input_ids"], row["labels"]) for row in rows_of(ours))
        same = sum(left == right for left, right in zip(found, wanted, strict=False))
        trained, total = (sum(map(count, (labels for _, labels in wanted))) for count in (_trained, len))
        detail = f"{same:,} of {len(wanted):,} rows as in the target tokens; {trained:,} of {total:,} tokens trained"
        say("ok" if same == len(wanted) == len(found) else "failed", f"labels, {what}, mask {mask}", detail)


def _trained(labels: list[int]) -> int:
    return sum(label != -100 for label in labels)


def trained() -> None:
    """axolotl's command trains on the folder with masked attempts and leaves a model whose weights have moved."""
    folder = exported("axolotl", Path(os.environ["MINI"]), "wrong")
    if folder is None:
        return
    text = (folder / "sft.yaml").read_text("utf-8").replace("bf16: true", "bf16: false") + f"max_steps: {STEPS}\n"
    (folder / "cpu.yaml").write_text(text, "utf-8")
    done = run("axolotl", "train", "cpu.yaml", cwd=folder)
    if done.returncode or not (folder / "model" / "model.safetensors").exists():
        say("failed", "axolotl train", last(done))
        return
    from safetensors.torch import load_file

    before = load_file(Path(os.environ["MINI"]) / "model.safetensors")
    after = load_file(folder / "model" / "model.safetensors")
    moved = sum(not before[name].float().equal(after[name].float()) for name in before)
    said = [word.strip("',{}") for word in done.stdout.split() + done.stderr.split()]
    loss = said[said.index("train_loss':") + 1] if "train_loss':" in said else "unknown"
    detail = f"{STEPS} steps on a CPU, mask wrong, loss {loss}; {moved} of {len(before)} tensors moved"
    say("ok" if moved == len(before) == len(after) else "failed", "axolotl train", detail)


def tokenised() -> None:
    """axolotl takes exported tokens as they are, masked, with no `type`."""
    mini = Path(os.environ["MINI"])
    folder = exported("tokens", mini, "wrong")
    if folder is None:
        return
    options = {"sequence_len": int(LIMIT), "micro_batch_size": 1, "gradient_accumulation_steps": 1, "num_epochs": 1}
    said = {"base_model": str(mini), "datasets": [{"path": str(folder.resolve()), "type": None}], "learning_rate": 1e-6}
    place = Path("tokenised")
    place.mkdir()
    (place / "sft.yaml").write_text(json.dumps(said | options | {"output_dir": "model", "val_set_size": 0.0}), "utf-8")
    found, wanted = encoded(place), sorted((row["input_ids"], row["labels"]) for row in rows_of(folder))
    say(
        "ok" if found == wanted else "failed",
        "tokenised rows",
        f"{len(found):,} of {len(wanted):,}, mask wrong, labels the same",
    )


def main() -> int:
    """Prints what is found; 1 if anything failed."""
    quiet = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_HOME": str(Path("hf").resolve()), "AXOLOTL_DO_NOT_TRACK": "1"}
    os.environ.update(quiet, PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    for package in ("axolotl", "transformers", "trl", "datasets", "torch"):
        say("version", package, importlib.metadata.version(package))
    mini = Path(os.environ["MINI"])
    folder = exported("axolotl", mini, "none")
    if folder is not None:
        known(folder)
    compared(mini, "the embedded model")
    compared(made(Path("byte-level")), "a byte-level BPE")
    tokenised()
    trained()
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
