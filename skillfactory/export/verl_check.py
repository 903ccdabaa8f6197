"""Whether verl, as installed here, would train on this folder as it is meant to; ends with an error and what to do if not.

python check_setup.py [KEY=VALUE ...] takes what is added to train.sh's command. It needs no GPU.
"""

import argparse
import contextlib
import importlib.util
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
CHECKED = ("0.9.1",)  # versions of verl that this folder was checked with
TODAY = {
    "custom_reward_function.path": "reward.custom_reward_function.path",
    "custom_reward_function.name": "reward.custom_reward_function.name",
    "reward_model.reward_manager": "reward.reward_manager.name",
}
COLUMNS = ("prompt", "data_source", "reward_model", "extra_info")


def main() -> None:
    """Checks all, or prints the options of train.sh."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--print", action="store_true", help="print the options of train.sh, one a line, and check nothing")
    parser.add_argument("extra", nargs="*", metavar="KEY=VALUE", help="what is added to train.sh's command")
    options = parser.parse_args()
    listed = list(overrides())
    if options.print:
        print("\n".join(listed))
        return
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    try:
        with contextlib.redirect_stdout(sys.stderr):  # verl talks a lot
            done = list(checks(listed, options.extra))
    except (ImportError, AttributeError) as error:
        raise SystemExit(
            f"check_setup: this verl isn't made like {' or '.join(CHECKED)}, and this folder is: {error}"
        ) from error
    print("\n".join(done))


def fail(message: str) -> None:
    """Ends the check."""
    raise SystemExit(f"check_setup: {message}")


def overrides() -> Iterator[str]:
    """The lines of overrides.txt with this folder and the number of GPUs put in."""
    here = str(HERE).replace("\\", "\\\\").replace('"', '\\"')
    for line in (HERE / "overrides.txt").read_text("utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            yield line.strip().replace("@HERE@", here).replace("@GPUS@", os.environ.get("GPUS", "4"))


def checks(listed: Sequence[str], extra: Sequence[str]) -> Iterator[str]:
    """Makes the checks one after the other and tells of each that passed."""
    if importlib.util.find_spec("verl") is None:
        fail("verl is not installed here; see README.md")
    import verl

    if verl.__version__ not in CHECKED:
        print(f"check_setup: warning: checked with verl {', '.join(CHECKED)}, not with {verl.__version__}", file=sys.stderr)
    config = composed(listed, extra)
    yield f"configuration: {len(listed) + len(extra)} options, none that verl {verl.__version__} lacks or ignores"
    yield f"rollout engine: {rollout(config)}"
    train, held = data(config)
    yield f"data: {len(train):,} questions to train on and {len(held):,} held-out ones, none lost"
    yield f"steps: {steps(config, len(train))}"
    yield f"reward: {reward(config, train)}"


def composed(listed: Sequence[str], extra: Sequence[str]) -> Any:
    """The configuration that verl would train with, checked by verl too."""
    import verl.trainer
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import validate_config

    folder = Path(verl.trainer.__file__).parent / "config"
    unread(folder, [*listed, *extra])
    try:
        with initialize_config_dir(config_dir=str(folder), version_base=None):
            bare = compose("ppo_trainer")
            added(bare, [*listed, *extra])
            config = compose("ppo_trainer", overrides=[*listed, *extra])
    except (HydraException, OmegaConfBaseException) as error:
        fail(f"verl doesn't take these options: {' '.join(str(error).split())}")
    rollout(config)  # named before verl looks: verl itself doesn't ask for it
    try:
        validate_config(config, use_reference_policy=need_reference_policy(config), use_critic=need_critic(config))
    except (AssertionError, ValueError, TypeError) as error:
        fail(f"verl refuses the configuration: {error}")
    return config


def unread(folder: Path, given: Sequence[str]) -> None:
    """Ends the check at a key of an old section: verl takes it without a word, and its trainer never looks at it."""
    from omegaconf import OmegaConf

    legacy = folder / "legacy_reward_impl.yaml"
    sections = {str(key) for key in OmegaConf.load(legacy)} if legacy.is_file() else set()
    for one in given:
        key = name_of(one)
        if key.partition(".")[0] in sections:
            now = TODAY.get(key, "what stands under `reward` today")
            fail(f"{key}: verl's trainer doesn't read this old section; give {now} instead")


def added(bare: Any, given: Sequence[str]) -> None:
    """Ends the check at a key that `+` adds where verl has a closed list of keys: nobody would read it."""
    from omegaconf import OmegaConf

    for one in given:
        key = name_of(one)
        if not one.startswith("+") or key.startswith("ray_kwargs."):
            continue
        parent = OmegaConf.select(bare, key.rpartition(".")[0]) if "." in key else bare
        if OmegaConf.select(bare, key) is None and parent is not None and len(parent):
            fail(f"{key}: verl has no such key; `+` would add one that nothing reads")


def name_of(override: str) -> str:
    """The key of an option."""
    return override.partition("=")[0].lstrip("+~").strip()


def rollout(config: Any) -> str:
    """The engine that writes the responses."""
    from omegaconf import OmegaConf
    from verl.workers.rollout.replica import RolloutReplicaRegistry

    name = OmegaConf.select(config, "actor_rollout_ref.rollout.name", throw_on_missing=False)
    if not name:
        fail("no rollout engine is named; give actor_rollout_ref.rollout.name=vllm (or sglang)")
    known = RolloutReplicaRegistry._registry
    if name not in known:
        fail(f"actor_rollout_ref.rollout.name: verl knows no engine '{name}' (known: {', '.join(known)})")
    if importlib.util.find_spec(name) is None:
        return f"{name}, which is not installed here (it must be where the GPUs are)"
    return str(name)


def data(config: Any) -> tuple[Any, Any]:
    """verl's own data sets of the training and the held-out questions."""
    import pyarrow.parquet as pq
    from verl.trainer.ppo.utils import create_rl_dataset
    from verl.utils.config import omega_conf_to_dataclass

    try:
        model = omega_conf_to_dataclass(config.actor_rollout_ref.model)
    except (OSError, ValueError) as error:
        fail(f"verl can't read the model {config.actor_rollout_ref.model.path}: {error}")
    found = []
    for option in ("train_files", "val_files"):
        rows = 0
        for name in config.data[option]:
            if not Path(name).is_file():
                fail(f"data.{option}: there is no file {name}")
            with pq.ParquetFile(name) as file:
                missing = [column for column in COLUMNS if column not in file.schema_arrow.names]
                rows += file.metadata.num_rows
            if missing:
                fail(f"{name}: the column {missing[0]} is missing; verl would drop every row, or fail at its first reward")
        kept = create_rl_dataset(config.data[option], config.data, model.tokenizer, model.processor)
        if len(kept) < rows:
            fail(
                f"data.{option}: verl would drop {rows - len(kept):,} of {rows:,} rows, as it can't read them or their prompts "
                f"have more than {config.data.max_prompt_length:,} tokens; raise data.max_prompt_length"
            )
        found.append(kept)
    longest = getattr(model.hf_config, "max_position_embeddings", None)
    wanted = config.data.max_prompt_length + config.data.max_response_length
    if longest is not None and wanted > longest:
        fail(
            f"prompt and response may take {wanted:,} tokens, and the model has room for {longest:,}; "
            "lower data.max_response_length"
        )
    return found[0], found[1]


def steps(config: Any, questions: int) -> str:
    """How long verl would train."""
    each, wanted = questions // config.data.train_batch_size, config.trainer.total_training_steps
    if not each:
        fail(f"data.train_batch_size: {config.data.train_batch_size:,} questions a step, and there are {questions:,} in all")
    reached = each * config.trainer.total_epochs
    if wanted is not None and reached < wanted:
        fail(
            f"trainer.total_epochs: verl would end after {reached:,} steps ({config.trainer.total_epochs} rounds of {each}), "
            f"not {wanted:,}; raise it to {-(-wanted // each)}"
        )
    return f"{wanted or reached:,} of {config.data.train_batch_size:,} questions each"


def reward(config: Any, train: Any) -> str:
    """Scores a right and a wrong answer to a question of each source in verl's own reward worker."""
    from verl.experimental.reward_loop import RewardLoopWorker

    path, name = config.reward.custom_reward_function.path, config.reward.custom_reward_function.name
    if path is None or Path(path).resolve() != HERE / "reward.py" or name != "compute_score":
        called = f"{name} of {path}" if path else "one of its own"
        fail(f"verl would call {called}, not compute_score of {HERE / 'reward.py'}; mend reward.custom_reward_function")
    try:
        worker = RewardLoopWorker(config)
    except (RuntimeError, ValueError) as error:
        fail(f"verl can't load the reward: {error.__cause__ or error}")
    from skillfactory.errors import SkillFactoryError  # it is there: reward.py found it

    first: dict[str, int] = {}
    for place, source in enumerate(train.dataframe["data_source"]):
        first.setdefault(source, place)
    for source, place in first.items():
        row = train[place]
        gold = row["extra_info"]["answer"]
        for text, due in ((f"<answer>{gold}</answer>", 1.0), (f"{gold}", 0.0), ("<answer>no such answer</answer>", 0.0)):
            try:
                came = scored(worker, row, text)
            except SkillFactoryError as error:
                fail(f"the task of {source} can't be used here: {error}")
            if came != due:
                fail(
                    f"reward.py, called by verl, gives {came} for {text!r}, and {due} is right ({source}, question "
                    f"{row['extra_info']['question_id']}); is it the file of this export, and does the tokenizer keep <answer>?"
                )
    return f"compute_score of {path}, called by {type(worker.reward_manager).__name__}: right 1, wrong 0 ({', '.join(first)})"


def scored(worker: Any, row: Any, text: str) -> float:
    """What verl's reward worker gives for a response, from its tokens on."""
    import numpy as np
    import torch
    from verl import DataProto

    tokenizer = worker.input_tokenizer
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"] + end])
    told = {key: np.array([row[key]], dtype=object) for key in ("data_source", "reward_model", "extra_info")}
    item = DataProto.from_dict(tensors={"responses": ids, "attention_mask": torch.ones_like(ids)}, non_tensors=told)
    return float(worker.loop.run_until_complete(worker.compute_score(item))["reward_score"])


if __name__ == "__main__":
    main()
