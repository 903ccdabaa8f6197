"""open-instruct's own preparation of data and its way to rewards, from a clone that OPEN_INSTRUCT names: the same as ours."""

import ast
import asyncio
import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from byte_level import made

LIMIT = "4096"
FAILED: list[str] = []
CLONE = Path(os.environ.get("OPEN_INSTRUCT", ""))


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


def given(folder: Path, program: str) -> dict[str, list[str]]:
    """Option → values, as train.sh hands them to `program`."""
    seen = folder / "bin"
    seen.mkdir()
    (seen / program).write_text('#!/usr/bin/env bash\nprintf "%s\\0" "$@"\n')
    (seen / program).chmod(0o755)
    path = {"PATH": f"{seen}{os.pathsep}{os.environ['PATH']}"}
    said = subprocess.run(
        ["bash", folder / "train.sh"], env=os.environ | path, capture_output=True, text=True, check=True
    ).stdout
    words = said.split("\0")[:-1]
    found: dict[str, list[str]] = {}
    name = ""
    for word in words[next(i for i, word in enumerate(words) if word.endswith(".py")) + 1 :]:
        if word.startswith("--"):
            name = word[2:]
            found[name] = []
        else:
            found[name].append(word)
    return found


def fields(*places: str) -> set[str]:
    """The fields of dataclasses, read from the source: its module:Class, with their bases."""
    found: set[str] = set()
    for place in places:
        module, _, wanted = place.partition(":")
        tree = ast.parse((CLONE / "open_instruct" / f"{module}.py").read_text("utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and node.name == wanted:
                found |= {
                    line.target.id
                    for line in node.body
                    if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)
                }
                bases = [ast.unparse(base).rpartition(".") for base in node.bases]
                found |= fields(*(f"{where or module}:{base}" for where, _, base in bases if where != "enum"))
    return found


def check_traces(model: Path) -> None:
    """Their preparation of SFT rows against the rows of the target tokens."""
    import pyarrow.parquet as pq
    from open_instruct.dataset_transformation import TokenizerConfig, get_cached_dataset_tulu
    from transformers import AutoTokenizer

    folder = exported(os.environ["TRACES"], "open-instruct", model, "--max-length", LIMIT)
    ours = pq.read_table(exported(os.environ["TRACES"], "tokens", model, "--max-length", LIMIT) / "data").to_pylist()
    said = given(folder, "accelerate")
    unknown = sorted({*said} - fields("finetune:FlatArguments", "dataset_transformation:TokenizerConfig"))
    say(
        not unknown,
        f"options of finetune.py, {named(model)}",
        f"unknown: {unknown}" if unknown else f"it has all {len(said)} of train.sh",
    )
    tokens = TokenizerConfig(tokenizer_name_or_path=said["tokenizer_name_or_path"][0])
    rows = get_cached_dataset_tulu(
        said["dataset_mixer_list"],
        said["dataset_mixer_list_splits"],
        tokens,
        ["sft_tulu_tokenize_and_truncate_v1", "sft_tulu_filter_v1"],
        [{"max_seq_length": int(said["max_seq_length"][0])}, {}],
        target_columns=["input_ids", "attention_mask", "labels"],
        dataset_skip_cache=True,
        dataset_local_cache_dir="cache",
    )
    say(len(rows) == len(ours), f"rows, {named(model)}", f"{len(rows)} of {len(ours)}")
    tokenizer = AutoTokenizer.from_pretrained(model)
    same = ends = lines = beyond = trained = 0
    for row, own in zip(rows, ours, strict=False):
        ids, labels = [*map(int, row["input_ids"])], [*map(int, row["labels"])]
        size = 1 + max(
            place for place, label in enumerate(own["labels"]) if label != -100
        )  # up to the token that ends the turn
        same += ids == list(own["input_ids"]) and labels[:size] == list(own["labels"])[:size]
        ends, lines = ends + (len(ids) > size), lines + (tokenizer.decode(ids[size:]) == "\n")
        beyond += any(label != -100 for label in labels[size:])
        trained += sum(label != -100 for label in labels)
    detail = f"equal to ours in {same} of {len(ours)} rows, up to the end of the turn; {trained:,} tokens are learnt"
    say(same == len(ours), f"tokens and labels, {named(model)}", detail)
    detail = f"{ends} rows have more there, a line end, and {beyond} learn it"
    say(beyond == ends == lines, f"after the turn, {named(model)}", detail)


def check_questions() -> None:
    """Their preparation of RLVR rows, and their way from these to rewards, with our verifier."""
    sizes = ("--questions", "50", "--validation", "10", "--max-length", "256")
    folder = exported(os.environ["RUN"], "open-instruct-rl", Path(os.environ["MINI"]), *sizes)
    said = given(folder, "python")
    places = (
        "grpo_utils:GRPOExperimentConfig",
        "dataset_transformation:TokenizerConfig",
        "data_loader:StreamingDataLoaderConfig",
    )
    unknown = sorted({*said} - fields(*places, "data_loader:VLLMConfig", "model_utils:ModelConfig"))
    say(not unknown, "options of grpo_fast.py", f"unknown: {unknown}" if unknown else f"it has all {len(said)} of train.sh")

    from open_instruct.ground_truth_utils import VerifierFunction

    sys.path.insert(0, str(folder))
    import skillfactory_verifier

    ours = skillfactory_verifier.SkillFactoryVerifier
    say(
        ours in VerifierFunction.__subclasses__(),
        "verifier",
        "among the subclasses that open-instruct builds its verifiers from",
    )
    training = prepared(said, "dataset_mixer_list", 50)
    prepared(said, "dataset_mixer_eval_list", 10)
    check_rewards(training, {ours().name: ours()})


def prepared(said: dict[str, list[str]], name: str, expected: int) -> Any:
    """The rows that their preparation makes of a list of data sets."""
    from open_instruct.dataset_transformation import TokenizerConfig, get_cached_dataset_tulu

    rows = get_cached_dataset_tulu(
        said[name],
        said[f"{name}_splits"],
        TokenizerConfig(tokenizer_name_or_path=said["tokenizer_name_or_path"][0]),
        ["rlvr_tokenize_v1", "rlvr_max_length_filter_v1"],
        [{}, {"max_prompt_token_length": int(said["max_prompt_token_length"][0])}],
        dataset_skip_cache=True,
        dataset_local_cache_dir="cache",
    )
    whole = all(row["dataset"] == ["skillfactory"] and len(row["ground_truth"]) == 1 for row in rows)
    say(whole and len(rows) == expected, f"rows of {name}", f"{len(rows)} rows")
    return rows


def check_rewards(training: Any, verifiers: dict[str, Any]) -> None:
    """Their way from rows and responses to rewards, against ours."""
    from open_instruct.ground_truth_utils import apply_verifiable_reward

    from skillfactory.reward import score

    texts, truths, names = [], [], []
    for number, row in enumerate(training):
        wrong = training[(number + 1) % len(training)]["answer"]
        for text in (
            f"<answer>{row['answer']}</answer>",
            f"<answer>{wrong}</answer>",
            "",
            f"<think><answer>{row['answer']}</answer>",
        ):
            texts.append(text)
            truths.append(row["ground_truth"])
            names.append(row["dataset"])
    rewards, _ = asyncio.run(apply_verifiable_reward(verifiers, [[]] * len(texts), texts, truths, names, reward_mult=1.0))
    expected = [score(text, truth[0]) for text, truth in zip(texts, truths, strict=True)]
    equal = sum(map(float.__eq__, map(float, rewards), expected))
    say(equal == len(texts), "reward", f"{equal} of {len(texts)} responses get our reward; {sum(expected):.0f} get 1")
    say(right_and_wrong(expected), "right and wrong", "every question's right answer gets 1, and not every response does")


def right_and_wrong(rewards: list[float]) -> bool:
    """Whether the first of each four rewards, that of the right answer, is 1, and not all are."""
    return len(rewards) > 0 and all(reward == 1 for reward in rewards[::4]) and not all(rewards)


def version() -> str:
    """The commit of the clone, where git knows it."""
    done = subprocess.run(["git", "-C", CLONE, "log", "-1", "--format=%h of %cs"], capture_output=True, text=True)
    return done.stdout.strip() or os.environ.get("OPEN_INSTRUCT_VERSION", "unknown")


def named(model: Path) -> str:
    """What findings call the tokenizer of a model."""
    return "embedded model" if model.name == "model" else model.name


def main() -> int:
    """Runs the checks; 1 if one failed."""
    if not (CLONE / "open_instruct" / "dataset_transformation.py").is_file():
        why = "open-instruct isn't on PyPI: clone it, and name the clone in OPEN_INSTRUCT"
        print("skipped", "all", why, sep="\t")
        return 0
    sys.path.insert(0, str(CLONE))
    print("version", "open-instruct", version(), sep="\t")
    for package in ("transformers", "datasets", "torch"):
        print("version", package, importlib.metadata.version(package), sep="\t")
    for model in (Path(os.environ["MINI"]), made(Path("byte-level").resolve())):
        check_traces(model)
    check_questions()
    print("skipped", "training", "open-instruct trains on GPUs alone", sep="\t")
    return int(bool(FAILED))


if __name__ == "__main__":
    sys.exit(main())
