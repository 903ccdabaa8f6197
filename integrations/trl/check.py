"""The hand-offs to TRL: SFTTrainer and GRPOTrainer train the embedded model through the exported scripts."""

import importlib.metadata
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

STEPS = 8
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
    said = done.stderr if done.returncode else done.stdout
    return ([line for line in said.splitlines() if line.strip()] or ["nothing"])[-1]


def exported(target: str, source: str, *options: str) -> Path | None:
    """The folder of an export, if it was made."""
    command = ["export", source, "--to", target, "--model", os.environ["MINI"], "--output", target, *options]
    done = run(os.environ["SKILLFACTORY"], *command)
    if done.returncode:
        say("failed", f"export {target}", last(done))
        return None
    return Path(target)


def trained(folder: Path, script: str, *options: str) -> None:
    """A script trains, and leaves a model whose weights have moved."""
    done = run(sys.executable, script, "--max-steps", str(STEPS), *options, cwd=folder)
    if done.returncode or not (folder / "model" / "model.safetensors").exists():
        say("failed", script, last(done))
        return
    from safetensors.torch import load_file

    before = load_file(Path(os.environ["MINI"]) / "model.safetensors")
    after = load_file(folder / "model" / "model.safetensors")
    moved = sum(not before[name].equal(after[name]) for name in before)
    same = moved == len(before) == len(after)
    say("ok" if same else "failed", script, f"{last(done)}; {moved} of {len(before)} tensors moved")


def rewarded(folder: Path) -> None:
    """The reward function that the script hands to TRL gives what the task says of 100 answers, right and wrong."""
    import pyarrow.parquet as pq
    from transformers import AutoTokenizer

    sys.path.insert(0, str(folder.resolve()))
    import grpo  # the exported script

    tokenizer = AutoTokenizer.from_pretrained(os.environ["MINI"])
    rows = pq.read_table(folder / "data" / "train-00000-of-00001.parquet").to_pylist()[:50]
    function = grpo.reward(tokenizer, 10_000)
    ids: list[list[int]] = []
    truths: list[str] = []
    wanted: list[float] = []
    for row in rows:
        numbers = [int(found) for found in re.findall(r"\d+", row["prompt"][0]["content"])]
        right = solution(numbers[0], numbers[1:])
        for answer in (right, f"{right} + 1" if right else "1 + 1"):
            ids.append(tokenizer(f"<think>\n</think>\n<answer>\n{answer or '0'}\n</answer>")["input_ids"])
            truths.append(row["truth"])
            wanted.append(float(answer == right and right != ""))
    found = function(completion_ids=ids, truth=truths, prompts=[], completions=[])
    same = sum(left == right for left, right in zip(found, wanted, strict=True))
    detail = f"{same} of {len(wanted)} as solving the question says, {sum(wanted):.0f} of them right"
    say("ok" if same == len(wanted) and sum(wanted) else "failed", "the reward of responses", detail)


def solution(target: int, numbers: list[int]) -> str:
    """An expression of `numbers`, each used once at most, that makes `target`; "" if there is none."""
    found: dict[tuple[int, ...], dict[int, str]] = {(place,): {number: str(number)} for place, number in enumerate(numbers)}
    for size in range(2, len(numbers) + 1):
        for left, right in [(a, b) for a in found for b in found if not {*a} & {*b} and len(a) + len(b) == size]:
            into = found.setdefault(tuple(sorted(left + right)), {})
            for one, first in [*found[left].items()]:
                for two, second in [*found[right].items()]:
                    into.setdefault(one + two, f"({first} + {second})")
                    into.setdefault(one * two, f"({first} * {second})")
                    into.setdefault(one - two, f"({first} - {second})")
    made: dict[int, Any] = {}
    for values in found.values():
        made |= values
    return str(made.get(target, ""))


def main() -> int:
    """Prints what is found; 1 if anything failed."""
    for package in ("trl", "transformers", "datasets", "torch"):
        say("version", package, importlib.metadata.version(package))
    folder = exported("trl", os.environ["TRACES"], "--max-length", "2048")
    if folder is not None:
        trained(folder, "sft.py", "--learning-rate", "0.0001")
    folder = exported("trl-grpo", os.environ["RUN"], "--max-length", "128", "--questions", "64", "--validation", "8")
    if folder is not None:
        said = json.loads((folder / "export.json").read_text("utf-8"))
        say("ok" if said["funnels"][0]["kept"] == 64 else "failed", "questions", "64 to train on, of the task of the run")
        rewarded(folder)
        sizes = ["--prompts", "16", "--mini-batch", "8", "--samples", "8", "--per-device", "32"]
        trained(folder, "grpo.py", *sizes, "--learning-rate", "0.0001")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
