"""Reinforcement (GRPO) on the questions beside this script; the reward is the task's own check of the final answer.

The defaults are the paper's (arXiv 2512.04072): 256 questions a batch with 16 responses each, 32 questions for a step of the
optimizer, learning rate 1e-6, no KL term, responses of up to 4,096 tokens, 150 batches. Needs skillfactory, trl and datasets;
written for trl 1.16. On several GPUs: accelerate launch grpo.py.
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


def main() -> None:
    """Reads the options, checks the questions, trains, saves."""
    said = json.loads((HERE / "export.json").read_text("utf-8"))
    options = parsed(said)

    from datasets import load_dataset
    from transformers import AutoTokenizer, set_seed

    set_seed(options.seed)
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    if options.chat_template is not None:
        tokenizer.chat_template = options.chat_template.read_text("utf-8")
    if options.eos_token is not None:
        tokenizer.eos_token = options.eos_token
    if not tokenizer.chat_template:
        raise SystemExit("the tokenizer has no chat template; give one: --chat-template FILE")
    rows = load_dataset("parquet", data_files=str(HERE / "data" / "train-*.parquet"), split="train")
    train(options, tokenizer, fitting(rows, tokenizer, options))


def parsed(said: dict[str, Any], arguments: list[str] | None = None) -> argparse.Namespace:
    """The options of the command line, or of `arguments`; `said` holds what the export was told."""
    parser = argparse.ArgumentParser(description="Reinforcement with TRL on questions that check themselves.")
    model = str(HERE / said["model"]) if (HERE / said["model"]).exists() else said["model"]
    parser.add_argument(
        "--model", default=model, help="path or Hub id; the paper's is the result of sft (default: %(default)s)"
    )
    parser.add_argument("--output", type=Path, default=Path("model"), help="folder of the trained model (default: %(default)s)")
    parser.add_argument("--prompts", type=int, default=256, help="questions a batch (default: %(default)s)")
    parser.add_argument("--samples", type=int, default=16, help="responses to a question (default: %(default)s)")
    parser.add_argument("--mini-batch", type=int, default=32, help="questions a step of the optimizer (default: %(default)s)")
    parser.add_argument(
        "--per-device", type=int, default=8, help="responses in a pass through the model (default: %(default)s)"
    )
    parser.add_argument(
        "--max-prompt", type=int, default=512, help="longer questions are refused, in tokens (default: %(default)s)"
    )
    parser.add_argument(
        "--max-response", type=int, default=said["max_length"], help="tokens of a response (default: %(default)s)"
    )
    parser.add_argument("--batches", type=int, default=150, help="batches of questions to learn from (default: %(default)s)")
    parser.add_argument("--max-steps", type=int, help="stop after so many steps of the optimizer (default: the batches)")
    parser.add_argument("--learning-rate", type=float, default=1e-6, help="constant (default: %(default)s)")
    parser.add_argument("--beta", type=float, default=0.0, help="weight of the KL term (default: %(default)s)")
    parser.add_argument("--use-vllm", action="store_true", help="generate with vLLM, in the same process on the same GPUs")
    parser.add_argument("--chat-template", type=Path, help="Jinja file (default: the model's)")
    parser.add_argument("--eos-token", help="the token that ends a turn (default: the tokenizer's end-of-text token)")
    parser.add_argument("--seed", type=int, default=said["seed"], help="order of the questions (default: %(default)s)")
    options = parser.parse_args(arguments)
    if options.prompts % options.mini_batch:
        parser.error(f"--prompts {options.prompts} is no multiple of --mini-batch {options.mini_batch}")
    options.one_pass = options.per_device * int(os.environ.get("WORLD_SIZE", "1"))  # responses, over all processes
    if options.mini_batch * options.samples % options.one_pass:
        step = options.mini_batch * options.samples
        parser.error(f"a step of {step:,} responses is no multiple of the {options.one_pass:,} in a pass: choose --per-device")
    return options


def fitting(rows: Any, tokenizer: Any, options: argparse.Namespace) -> Any:
    """The rows, after checks that they fill a batch (TRL would train on none) and that no prompt is too long."""
    limit = options.max_prompt
    if len(rows) < options.prompts:
        raise SystemExit(f"{len(rows):,} questions don't fill a batch of {options.prompts:,}: export more, or lower --prompts")

    def measured(row: dict[str, Any]) -> dict[str, int]:
        ids = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, return_dict=True)["input_ids"]
        return {"length": len(ids)}

    lengths = rows.map(measured, desc="counting tokens")["length"]
    long = sum(length > limit for length in lengths)
    if long:
        raise SystemExit(
            f"{long:,} of {len(rows):,} prompts have more than {limit:,} tokens (up to {max(lengths):,}): --max-prompt"
        )
    return rows


def reward(tokenizer: Any, limit: int) -> Any:
    """The function that TRL calls: 1.0 for a response whose final answer is right, else 0.0, as for one cut off at `limit`."""
    try:
        from skillfactory.reward import score
    except ImportError as error:
        raise SystemExit(
            "the reward is computed by skillfactory, which is missing here: pip install CLONE, the folder of a clone in the "
            "version that export.json names"
        ) from error

    def right(completion_ids: list[list[int]], truth: list[str], **_: Any) -> list[float]:
        texts = tokenizer.batch_decode(completion_ids, skip_special_tokens=True)
        ended = [len(ids) < limit or ids[-1] == tokenizer.eos_token_id for ids in completion_ids]
        return [score(text, said) if end else 0.0 for text, said, end in zip(texts, truth, ended, strict=True)]

    return right


def train(options: argparse.Namespace, tokenizer: Any, rows: Any) -> None:
    """Trains on `rows` and saves the model."""
    import torch
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.grpo_trainer import GRPOTrainer

    on_gpu = torch.cuda.is_available()
    together, step = options.prompts * options.samples, options.mini_batch * options.samples
    config = GRPOConfig(
        output_dir=str(options.output),
        num_generations=options.samples,
        per_device_train_batch_size=options.per_device,
        gradient_accumulation_steps=step // options.one_pass,
        steps_per_generation=together // options.one_pass,
        max_completion_length=options.max_response,
        max_steps=options.max_steps or options.batches * (together // step),
        learning_rate=options.learning_rate,
        lr_scheduler_type="constant",
        weight_decay=0.01,
        beta=options.beta,
        temperature=1.0,
        use_vllm=options.use_vllm,
        vllm_mode="colocate",
        bf16=on_gpu and torch.cuda.is_bf16_supported(),
        gradient_checkpointing=on_gpu,
        seed=options.seed,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
    )
    trainer = GRPOTrainer(
        model=options.model,
        reward_funcs=reward(tokenizer, options.max_response),
        args=config,
        train_dataset=rows,
        processing_class=tokenizer,
    )
    result = trainer.train()
    trainer.save_model(str(options.output))
    rewards = [said["reward"] for said in trainer.state.log_history if "reward" in said]
    print(f"{result.global_step:,} steps, mean reward {rewards[0]:.3f} at first, {rewards[-1]:.3f} at last", end="; ")
    print(f"saved to {options.output}")


if __name__ == "__main__":
    main()
