"""The hand-offs to verl in the real package: data sets, reward loop, configuration, loss masks, and what the checks find."""

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

SIZES = ("--max-length", "512", "--questions", "300", "--validation", "50")  # the embedded model has room for 2,048 tokens
FINDINGS, sys.stdout = sys.stdout, sys.stderr  # verl talks a lot
failures: list[str] = []


def say(outcome: str, what: str, detail: str = "") -> None:
    """Prints a finding."""
    if outcome == "failed":
        failures.append(what)
    print(outcome, what, " ".join(detail.split()), sep="\t", file=FINDINGS, flush=True)


def ask(right: bool, what: str, detail: str = "") -> None:
    """Prints whether something is as it is meant to be."""
    say("ok" if right else "failed", what, detail)


def run(*command: object) -> "subprocess.CompletedProcess[str]":
    """Runs a command; what it says goes to the log."""
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=600, check=False)
    print(*command, done.stdout, done.stderr, sep="\n", file=sys.stderr)
    return done


def exported(source: str, target: str, folder: str, *options: str) -> Path:
    """The folder of an export, made by the command line."""
    done = run(os.environ["SKILLFACTORY"], "export", os.environ[source], "--to", target, "--output", folder, *options)
    if done.returncode:
        say("failed", f"export {target}", done.stderr)
        raise SystemExit(1)
    return Path(folder).resolve()


def loaded(path: Path) -> Any:
    """The module in a file, as it is now."""
    spec = importlib.util.spec_from_file_location(f"{path.stem}_{path.parent.name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tables(folder: Path, pattern: str) -> list[dict[str, Any]]:
    """The rows of Parquet files, in order."""
    import pyarrow.parquet as pq

    return [row for part in sorted(folder.glob(pattern)) for row in pq.read_table(part).to_pylist()]


def read_by_verl(folder: Path, config: Any) -> None:
    """verl's own data set has every row, with the turns and the ground truth that were exported."""
    from verl.trainer.ppo.utils import create_rl_dataset
    from verl.utils import hf_tokenizer

    tokenizer = hf_tokenizer(config.actor_rollout_ref.model.path)
    for name, option in (("train", "train_files"), ("validation", "val_files")):
        rows = create_rl_dataset(config.data[option], config.data, tokenizer, None)
        wanted = tables(folder, f"data/{name}-*.parquet")
        same = [
            made["raw_prompt"] == row["prompt"] and made["reward_model"] == row["reward_model"] and made["index"] == n
            for n, (made, row) in enumerate(zip((rows[n] for n in range(len(rows))), wanted, strict=True))
        ]
        ask(len(rows) == len(wanted) and all(same), f"RLHFDataset reads {name}", f"{sum(same)} of {len(wanted)} rows the same")


HOSTILE = (
    "", "<answer></answer>", "<answer>", "</answer>", "1 + 1", "<answer>9**9**9**9</answer>", "<answer>1e999</answer>",
    "<answer>__import__('os')</answer>", "<answer>" + "(" * 3000 + "1" + ")" * 3000 + "</answer>",
    "<answer>" + "1+" * 20000 + "1</answer>", "<think><answer>{gold}</answer>", "<answer>{gold}", "{gold}</answer>",
    "<answer>{gold}</answer><answer>1 + 1</answer>", "<answer>{gold} = 7</answer>", "<ANSWER>{gold}</ANSWER>",
    "<answer><answer>{gold}</answer></answer>", "<answer>{gold}\x00</answer>",
    "<think>\n<sample>\n<answer>1 + 1</answer>\n</sample>\n</think>\n\n<answer>\n{gold}\n</answer>",
    "<think>\n<sample>\n<answer>{gold}</answer>\n</sample>\n</think>\n\n<answer>\n1 + 1\n</answer>",
)  # fmt: skip


def responses() -> Iterator[tuple[Any, str, bool]]:
    """Responses to the run's questions, its own and made-up ones: the question with its source, the text, whether it ended."""
    import json

    from skillfactory.supply import Asked, sources

    run_folder = Path(os.environ["RUN"])
    settings = json.loads((run_folder / "run.json").read_text("utf-8"))["settings"]
    source = sources([f"{settings['task']}:{settings['level']}"], settings["option"])[0]
    stored = tables(run_folder, "questions/*.parquet")
    asked = {row["id"]: Asked(source.task.question(json.loads(row["facts"])), source) for row in stored}
    gold = {row["id"]: row["answer"] for row in stored}
    attempts = tables(run_folder, "attempts/*.parquet")
    seen: dict[str, int] = {}
    for attempt in attempts:  # twenty each of those right, wrong, and without an answer, as far as there are
        seen[attempt["check"]] = seen.get(attempt["check"], 0) + 1
        if seen[attempt["check"]] <= 20:
            yield asked[attempt["question_id"]], attempt["text"], attempt["stop"] == "end"
    for n, row in enumerate(tables(Path(os.environ["TRACES"]), "traces/*.parquet")[:20]):
        yield asked[row["question_id"]], row["conversations"][-1]["content"], True
        if n < len(HOSTILE):
            yield asked[row["question_id"]], HOSTILE[n].replace("{gold}", gold[row["question_id"]]), True
    for name in [*asked][:20]:
        yield asked[name], f"<answer>{gold[name]}</answer>", True


def rewarded(config: Any) -> None:
    """verl's reward loop, in worker processes of its own on Ray, gives a hundred responses the rewards that ours gives."""
    import ray
    from verl.experimental.reward_loop import RewardLoopManager
    from verl.utils import hf_tokenizer

    from skillfactory.reward import score, truth
    from skillfactory.train.rewards import judged

    tokenizer = hf_tokenizer(config.actor_rollout_ref.model.path)
    cases = [*responses()][:100]
    texts = [text for _, text, _ in cases]
    shown = [
        tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"], skip_special_tokens=True) for text in texts
    ]
    ours = [score(text, truth(asked)) for (asked, _, _), text in zip(cases, shown, strict=True)]
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    config.reward.num_workers = 2
    found = RewardLoopManager(config).compute_rm_score(batch(tokenizer, cases, [truth(asked) for asked, _, _ in cases]))
    theirs = found.batch["rm_scores"].sum(-1).tolist()
    ray.shutdown()
    same, right = sum(a == b for a, b in zip(theirs, ours, strict=True)), int(sum(ours))
    ask(
        same == len(cases) == 100 and 0 < right < 100,
        "reward loop on Ray",
        f"{same} of {len(cases)} rewards equal, {right} of them 1",
    )
    judges = [
        (reward, judged(asked.source.task, asked.question, text, True).reward or 0.0)
        for (asked, _, ended), text, reward in zip(cases, shown, theirs, strict=True)
        if ended
    ]
    same = sum(a == b for a, b in judges)
    ask(same == len(judges), "rewards of `skillfactory grpo`", f"{same} of {len(judges)} responses that ended have the same")


def batch(tokenizer: Any, cases: list[tuple[Any, str, bool]], truths: list[str]) -> Any:
    """Responses as verl's trainer hands them to its reward loop: padded, with their end tokens."""
    import numpy as np
    import torch
    from verl import DataProto

    end = tokenizer.eos_token_id
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] + ([end] if ended else []) for _, text, ended in cases]
    ids = [one or [end] for one in ids]
    longest = max(map(len, ids))
    padded = torch.tensor([one + [tokenizer.pad_token_id] * (longest - len(one)) for one in ids])
    mask = torch.tensor([[1] * len(one) + [0] * (longest - len(one)) for one in ids])
    prompts = torch.full((len(ids), 1), end)
    told = {
        "data_source": [asked.source.label for asked, _, _ in cases],
        "reward_model": [{"style": "rule", "ground_truth": said} for said in truths],
        "extra_info": [{"index": n} for n in range(len(cases))],
    }
    tensors = {"prompts": prompts, "responses": padded, "attention_mask": torch.cat([torch.ones_like(prompts), mask], 1)}
    return DataProto.from_dict(tensors=tensors, non_tensors={key: np.array(told[key], dtype=object) for key in told})


def replaced(name: str, old: str, new: str) -> Callable[[Path], None]:
    """Spoils a folder by replacing a text in one of its files."""

    def spoil(folder: Path) -> None:
        text = (folder / name).read_text("utf-8")
        assert old in text, (name, old)
        (folder / name).write_text(text.replace(old, new), "utf-8")

    return spoil


def without(column: str) -> Callable[[Path], None]:
    """Spoils a folder by removing a column of the training questions."""

    def spoil(folder: Path) -> None:
        import pyarrow.parquet as pq

        path = next((folder / "data").glob("train-*"))
        pq.write_table(pq.read_table(path).drop_columns([column]), path)

    return spoil


def other_reward(folder: Path) -> None:
    """Points to another reward file that a user may have lying about."""
    shutil.copy(folder / "reward.py", folder / "mine.py")
    replaced("overrides.txt", '/reward.py"', '/mine.py"')(folder)


def rewards(what: str) -> Callable[[Path], None]:
    """Replaces the reward by one that a user may have written."""
    code = f"def compute_score(data_source, solution_str, ground_truth, extra_info=None):\n    return float({what})\n"

    def spoil(folder: Path) -> None:
        (folder / "reward.py").write_text(code, "utf-8")

    return spoil


KEYS = "overrides.txt"
SPOILED: dict[str, tuple[Callable[[Path], None], str]] = {
    "old key custom_reward_function.path": (
        replaced(KEYS, "reward.custom_reward_function.path", "custom_reward_function.path"), "doesn't read this old section"),
    "old key reward_model.reward_manager": (
        replaced(KEYS, "reward.reward_manager.name", "reward_model.reward_manager"), "doesn't read this old section"),
    "key that is gone": (
        replaced(KEYS, "reward.reward_manager.name=naive", "reward_model.launch_reward_fn_async=true"), "this old section"),
    "misspelt key": (replaced(KEYS, "data.train_batch_size", "data.train_batchsize"), "verl doesn't take these options"),
    "key added with +": (replaced(KEYS, "data.train_batch_size", "+data.train_batchsize"), "verl has no such key"),
    "reward manager that is gone": (replaced(KEYS, "name=naive", "name=batch"), "verl can't load the reward"),
    "no reward file named": (replaced(KEYS, "reward.custom_reward_function.path", "# "), "verl would call one of its own"),
    "another reward file": (other_reward, "verl would call compute_score of"),
    "reward.py that rewards all": (rewards("1"), "gives 1.0"),
    "reward.py that rewards none": (rewards("0"), "gives 0.0"),
    "reward.py that rewards any answer": (rewards("'<answer>' in solution_str"), "gives 1.0"),
    "reward.py that can't be imported": (replaced("reward.py", "skillfactory.reward", "skillfactory.rewards"), "skillfactory"),
    "no rollout engine": (replaced(KEYS, "actor_rollout_ref.rollout.name", "# "), "no rollout engine is named"),
    "unknown rollout engine": (replaced(KEYS, "rollout.name=vllm", "rollout.name=vlm"), "verl knows no engine 'vlm'"),
    "no column prompt": (without("prompt"), "the column prompt is missing"),
    "no column reward_model": (without("reward_model"), "the column reward_model is missing"),
    "prompts that verl would drop": (replaced(KEYS, "max_prompt_length=512", "max_prompt_length=8"), "verl would drop"),
    "too few rounds": (replaced(KEYS, "trainer.total_epochs=150", "trainer.total_epochs=30"), "verl would end after"),
    "responses longer than the context": (
        replaced(KEYS, "max_response_length=512", "max_response_length=4096"), "the model has room for"),
    "batches that nothing fills": (
        replaced(KEYS, "data.train_batch_size=256", "data.train_batch_size=512"), "questions a step"),
}  # fmt: skip


def found_out(folder: Path) -> None:
    """check_setup.py ends with an error that says what is wrong with each spoiled folder."""
    for what, (spoil, message) in SPOILED.items():
        bad = folder.with_name("spoiled")
        shutil.rmtree(bad, ignore_errors=True)
        shutil.copytree(folder, bad)
        spoil(bad)
        module = loaded(bad / "check_setup.py")
        try:
            passed = [*module.checks([*module.overrides()], [])]
            ask(False, f"check_setup.py finds: {what}", " | ".join(passed))
        except SystemExit as error:
            ask(message in str(error), f"check_setup.py finds: {what}", str(error))
        if what == "another reward file":
            done = run("env", f"PYTHON={sys.executable}", "bash", bad / "train.sh")
            stopped = done.returncode == 1 and message in done.stderr and "ray init" not in done.stdout + done.stderr
            ask(stopped, "train.sh stops before verl starts", done.stderr.splitlines()[-1])


FAMILIES = {"qwen2.5": "chatml", "qwen2.5-wide": "chatml", "llama-3": "headers", "olmo": "plain"}
BARE = {  # how many tokens a row more than ours bear loss in verl's own data set of chats; None: it refuses them
    "mini": 0, "qwen2.5": 1, "qwen2.5-wide": 1, "llama-3": 0, "olmo": None,
}  # fmt: skip
CASES = (("traces", "wrong"), ("hard", "wrong"), ("hard", "all-but-last"), ("hard", "none"))
EXPORTS = """\
import sys
from pathlib import Path

tests, traces, mini, *arguments = sys.argv[1:]
sys.path.insert(0, tests)
import chats
import silver

from skillfactory.export import ExportConfig, export

models = {"mini": mini}
for argument in arguments:
    name, _, style = argument.partition("=")
    models[name] = str(Path("models", name).resolve())
    chats.with_template(style, name).save_pretrained(models[name])
sources = {"traces": Path(traces), "hard": silver.write(Path("models/hard"), [chats.plain(), chats.multibyte()])}
for name, model in models.items():
    for source, mask in CASES:
        for target in ("verl-sft", "tokens"):
            folder = Path("masks", f"{name}-{source}-{mask}-{target}")
            limit = 2048 if name == "mini" else 8192
            export(ExportConfig(sources[source], target, folder, model=model, mask=mask, max_length=limit))
"""
"""Saves tokenizers in the style of other families, with their templates, and exports what their masks are compared on."""


def masks() -> None:
    """verl's data set of chats, and ours upon it, beside the tokens that `skillfactory sft` trains on."""
    python, tests = Path(os.environ["SKILLFACTORY"]).with_name("python"), Path(__file__).resolve().parents[2] / "tests"
    code = EXPORTS.replace("CASES", repr(CASES))
    families = [f"{name}={style}" for name, style in FAMILIES.items()]
    done = run(python, "-c", code, tests, os.environ["TRACES"], os.environ["MINI"], *families)
    told = done.stderr.splitlines()[-1] if done.returncode else ", ".join(FAMILIES)
    ask(done.returncode == 0, "exports for tokenizers and templates of other families", told)
    for name in ("mini", *FAMILIES):
        compared(name)
    folder = exported("TRACES", "verl-sft", "sft-embedded", "--max-length", "1024", "--model", os.environ["MINI"])
    done = run(sys.executable, folder / "dataset.py")
    ask(done.returncode == 0, "dataset.py passes as exported", (done.stdout or done.stderr).splitlines()[-1])
    done = run(sys.executable, folder / "dataset.py", "data.max_length=64")
    found = done.returncode == 1 and "tokens are more than data.max_length=64" in done.stderr
    ask(found, "dataset.py finds a row that is too long", done.stderr.splitlines()[-1])
    done = run(sys.executable, folder / "dataset.py", "optim.warmup_ratio=0.05")
    found = done.returncode == 1 and "verl doesn't take these options" in done.stderr
    ask(found, "dataset.py finds a key that verl hasn't got", done.stderr.splitlines()[-1])
    done = run(sys.executable, folder / "dataset.py", "data.custom_cls.path=null")
    found = done.returncode == 1 and "not with SilverTraces" in done.stderr
    ask(found, "dataset.py finds another data set class", done.stderr.splitlines()[-1])


def compared(name: str) -> None:
    """Masks under the chat template of a model, on the traces of the embedded one and on two that are harder."""
    same = every = trained = tokens = 0
    for source, mask in CASES:
        folder, ours = (Path("masks", f"{name}-{source}-{mask}-{target}").resolve() for target in ("verl-sft", "tokens"))
        wanted = [(row["input_ids"], [label != -100 for label in row["labels"]]) for row in tables(ours, "data/*.parquet")]
        made = masked(folder, bare=False)
        same, every = same + sum(a == b for a, b in zip(made, wanted, strict=True)), every + len(wanted)
        trained, tokens = trained + sum(sum(bears) for _, bears in wanted), tokens + sum(len(ids) for ids, _ in wanted)
    try:
        pairs = [*zip(masked(folder, bare=True), wanted, strict=True)]
        more = {sum(theirs) - sum(bears) for (_, theirs), (_, bears) in pairs}
        known = more == {BARE[name]} and all(  # the same tokens, and ours bear loss there too
            ids == own and all(t or not o for t, o in zip(theirs, bears, strict=True)) for (ids, theirs), (own, bears) in pairs
        )
        told = f"loss on {', '.join(map(str, sorted(more)))} tokens more than ours, in each of {len(pairs)} rows"
    except AssertionError as error:
        told, known = f"it refuses the template: {str(error).splitlines()[0]}", BARE[name] is None
    detail = (
        f"{same} of {every} traces the same token for token, three masks, {trained / tokens:.1%} of {tokens:,} tokens trained"
    )
    ask(same == every >= 50, f"loss mask of the export: {name}", detail)
    ask(known, f"loss mask of verl's own data set: {name}", told)


def masked(folder: Path, bare: bool) -> list[tuple[list[int], list[bool]]]:
    """The tokens of the rows of an export, with whether they bear loss, as verl reads them; `bare`, with its own class."""
    from hydra import compose, initialize_config_module
    from verl.trainer.sft_trainer import create_sft_dataset
    from verl.utils import hf_tokenizer

    listed = loaded(folder / "dataset.py").overrides()
    with initialize_config_module("verl.trainer.config", version_base=None):
        config = compose("sft_trainer_engine", overrides=[*listed, *(["data.custom_cls.path=null"] if bare else [])])
    rows = create_sft_dataset(config.data.train_files, config.data, hf_tokenizer(config.model.path), None)
    return [(row["input_ids"].tolist(), row["loss_mask"].bool().tolist()) for row in (rows[n] for n in range(len(rows)))]


def main() -> None:
    """Goes through the hand-offs."""
    for name in ("verl", "torch", "transformers", "tensordict", "ray", "datasets", "hydra-core"):
        say("version", name, importlib.metadata.version(name))
    folder = exported("RUN", "verl", "rl", *SIZES, "--model", os.environ["MINI"])
    done = run(sys.executable, folder / "check_setup.py")
    ask(done.returncode == 0, "check_setup.py passes as exported", " | ".join((done.stdout or done.stderr).splitlines()[-5:]))
    listed = run(sys.executable, folder / "check_setup.py", "--print").stdout.splitlines()
    done = run(sys.executable, "-m", "verl.trainer.main_ppo", *listed, "--cfg", "job")
    told = f"path: {folder}/reward.py" in done.stdout and "name: vllm" in done.stdout
    ask(done.returncode == 0 and told, "verl.trainer.main_ppo composes its configuration", f"from {len(listed)} options")
    module = loaded(folder / "check_setup.py")
    config = module.composed(listed, [])
    read_by_verl(folder, config)
    found_out(folder)
    masks()
    rewarded(config)
    raise SystemExit(bool(failures))


if __name__ == "__main__":
    main()
