"""OpenRLHF's own options, data sets and executor on the exports: the same tokens and loss as ours, the same reward as ours."""

import argparse
import ast
import asyncio
import importlib.metadata
import importlib.util
import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from openrlhf.datasets import PromptDataset, SFTDataset
from openrlhf.datasets.utils import blending_datasets
from openrlhf.utils.agent import SingleTurnAgentExecutor
from openrlhf.utils.config import hierarchize
from transformers import AutoTokenizer

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from byte_level import made

LIMIT = "4096"
SHORT = 60  # tokens, fewer than rows have
FAILED: list[str] = []


def say(good: bool, what: str, detail: str) -> None:
    """Prints a finding."""
    print("ok" if good else "failed", what, detail, sep="\t", flush=True)
    if not good:
        FAILED.append(what)


def exported(source: str, to: str, model: Path, *options: str) -> Path:
    """The folder of an export."""
    folder = Path(f"{to}-{model.name}")
    command = [
        os.environ["SKILLFACTORY"],
        "export",
        source,
        "--to",
        to,
        "--model",
        str(model),
        "--output",
        str(folder),
        *options,
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder.resolve()


def options(folder: Path, program: str, module: str) -> Any:
    """What OpenRLHF's own parser makes of the options that train.sh hands to `program`."""
    seen = folder / "bin"
    seen.mkdir()
    (seen / program).write_text('#!/usr/bin/env bash\nprintf "%s\\0" "$@"\n')
    (seen / program).chmod(0o755)
    path = {"PATH": f"{seen}{os.pathsep}{os.environ['PATH']}"}
    said = subprocess.run(
        ["bash", folder / "train.sh"], env=os.environ | path, capture_output=True, text=True, check=True
    ).stdout
    given = said.split("\0")[:-1]
    at = given.index(f"openrlhf.cli.{module}")
    return hierarchize(parser(module).parse_args(given[at + 1 :]))


def parser(module: str) -> argparse.ArgumentParser:
    """The parser that the program builds: its own statements, without the imports of DeepSpeed and flash-attn above them."""
    spec = importlib.util.find_spec("openrlhf")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    path = Path(spec.submodule_search_locations[0]) / "cli" / f"{module}.py"
    main = next(node for node in ast.parse(path.read_text("utf-8")).body if isinstance(node, ast.If))
    building: list[ast.stmt] = []
    for node in main.body:
        if isinstance(node, ast.Assign) and "parse_args" in ast.unparse(node.value):
            break
        building.append(node)
    names: dict[str, Any] = {"argparse": argparse, "datetime": datetime, "os": os}
    exec(compile(ast.Module(building, []), str(path), "exec"), names)
    made: argparse.ArgumentParser = names["parser"]
    return made


def strategy(args: Any) -> Any:
    """What the data sets ask of a strategy."""
    args.use_ms = False
    return SimpleNamespace(args=args, print=lambda *_: None, is_rank_0=lambda: False)


def check_traces(model: Path) -> None:
    """Their SFT data set against the rows of the target tokens."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    folder = exported(os.environ["TRACES"], "openrlhf", model, "--max-length", LIMIT)
    ours_folder = exported(os.environ["TRACES"], "tokens", model, "--max-length", LIMIT)
    args = options(folder, "deepspeed", "train_sft")
    paper = (args.adam.lr, list(args.adam.betas), args.adam.weight_decay, args.lr_scheduler, args.lr_warmup_ratio)
    say(
        paper == (1e-6, [0.9, 0.95], 1e-4, "cosine", 0.05),
        f"options of train_sft, {named(model)}",
        f"its own parser takes train.sh; {paper}",
    )
    plan = strategy(args)
    rows = blending_datasets(args.data.dataset, None, plan, args.train.seed, dataset_split=args.data.dataset_split)
    theirs = SFTDataset(rows, tokenizer, args.data.max_len, plan, input_template=args.data.input_template, num_processors=1)
    import pyarrow.parquet as pq

    ours = pq.read_table(ours_folder / "data").to_pylist()
    say(len(theirs) == len(ours) == len(rows), f"rows, {named(model)}", f"{len(theirs)} of {len(ours)}")
    same = trained = shorter = 0
    for number, own in enumerate(ours):
        ids, _, mask = theirs[number]
        learnt = [False, *(bool(weight) for weight in mask[0, :-1].tolist())]  # the place before a token bears its loss
        bears = [label != -100 for label in own["labels"]]
        size = len(learnt)  # it drops a line end that the template puts after the turn, on which there is no loss anyway
        same += ids[0].tolist() == list(own["input_ids"])[:size] and learnt == bears[:size] and not any(bears[size:])
        shorter += size < len(bears)
        trained += sum(learnt)
    detail = f"equal to ours in {same} of {len(ours)} rows; {trained:,} tokens are learnt"
    detail += f"; {shorter} rows lose the line end after the turn, which bears no loss" if shorter else ""
    say(same == len(ours), f"tokens and loss mask, {named(model)}", detail)
    say(*cut_off(theirs, SFTDataset(rows, tokenizer, SHORT, plan, input_template=None, num_processors=1), named(model)))


def cut_off(whole: SFTDataset, short: SFTDataset, name: str) -> tuple[bool, str, str]:
    """What becomes of rows with more tokens than max_len, as a finding: they lose their end, and get an end token."""
    cut = seen = 0
    for (ids, _, _), (left, _, _) in ((whole[number], short[number]) for number in range(len(whole))):
        if len(ids[0]) > SHORT:
            seen += 1
            cut += left[0].tolist() == [*ids[0, : SHORT - 1].tolist(), whole.tokenizer.eos_token_id]
    detail = f"{cut} of {seen} rows of more tokens than max_len lose their end, and get an end token"
    return cut == seen > 0, f"what we refuse it cuts, {name}", detail


class Engine:
    """Stands in for vLLM: says the text that it is given."""

    def __init__(self, tokenizer: Any, text: str) -> None:
        self.ids = tokenizer(text, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]

    async def generate(self, prompt: list[int], parameters: Any, multi_modal_data: Any = None) -> Any:
        """One completion, as vLLM gives it."""
        return SimpleNamespace(outputs=[SimpleNamespace(token_ids=self.ids, finish_reason="stop", logprobs=None)])


def check_questions(model: Path) -> None:
    """Their data set of prompts and their executor with our reward file."""
    from skillfactory.reward import score

    tokenizer = AutoTokenizer.from_pretrained(model)
    folder = exported(os.environ["RUN"], "openrlhf-rl", model, "--questions", "50", "--validation", "10", "--max-length", "256")
    args = options(folder, "python3", "train_ppo_ray")
    found = (args.algo.advantage.estimator, args.algo.kl.init_coef, args.rollout.n_samples_per_prompt, args.actor.adam.lr)
    say(
        found == ("group_norm", 0.0, 16, 1e-6),
        f"options of train_ppo_ray, {named(model)}",
        f"its own parser takes train.sh; {found}",
    )
    plan = strategy(args)
    for name, path in (("train", args.data.prompt_dataset), ("validation", args.eval.dataset)):
        rows = blending_datasets(path, None, plan, args.train.seed, dataset_split="train")
        asked = PromptDataset(rows, tokenizer, plan, input_template=args.data.input_template)
        shown = [tokenizer.apply_chat_template(row["prompt"], tokenize=False, add_generation_prompt=True) for row in rows]
        whole = all(asked[i][:3] == (row["datasource"], shown[i], row["label"]) for i, row in enumerate(rows))
        say(whole and len(asked) == len(rows), f"prompts of {name}, {named(model)}", f"{len(asked)} prompts with their labels")
        if name == "train":
            training, data = asked, rows
    executor = SingleTurnAgentExecutor([args.reward.remote_url])
    limits = SimpleNamespace(max_tokens=args.rollout.max_new_tokens, logprobs=None)
    equal = 0
    rewards: list[float] = []
    for number, row in enumerate(data):
        _, prompt, label, _ = training[number]
        wrong = data[(number + 1) % len(data)]["answer"]
        for text in (
            f"<answer>{row['answer']}</answer>",
            f"<answer>{wrong}</answer>",
            "",
            f"<think> <answer>{row['answer']}</answer>",
        ):
            engine = Engine(tokenizer, text)
            got = asyncio.run(executor.execute(prompt, label, limits, args.data.max_len, tokenizer, engine))
            expected = score(tokenizer.decode(engine.ids), label)
            rewards.append(expected)
            equal += got["reward"] is not None and float(got["reward"]) == expected
    right = sum(rewards)
    say(
        equal == len(rewards),
        f"reward, {named(model)}",
        f"{equal} of {len(rewards)} responses through its executor get our reward; {right:.0f} get 1",
    )
    say(
        all(reward == 1 for reward in rewards[::4]) and right < len(rewards),  # the right answer is the first of four
        f"right and wrong, {named(model)}",
        "every question's right answer gets 1, and not every response does",
    )


def named(model: Path) -> str:
    """What findings call the tokenizer of a model."""
    return "embedded model" if model.name == "model" else model.name


def main() -> int:
    """Runs the checks; 1 if one failed."""
    for package in ("openrlhf", "transformers", "datasets", "torch"):
        print("version", package, importlib.metadata.version(package), sep="\t")
    for model in (Path(os.environ["MINI"]), made(Path("byte-level").resolve())):
        check_traces(model)
        check_questions(model)
    print("skipped", "training", "OpenRLHF trains with DeepSpeed and flash-attn, on GPUs alone", sep="\t")
    return int(bool(FAILED))


if __name__ == "__main__":
    sys.exit(main())
