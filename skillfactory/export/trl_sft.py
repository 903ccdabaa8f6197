"""Full fine-tuning on the silver traces beside this script, the loss on the assistant's tokens alone.

The defaults are the paper's (arXiv 2512.04072): learning rate 1e-6, cosine, batch size 1, two epochs, warm-up 0.05, AdamW betas
0.9 and 0.95, weight decay 1e-4, bf16 where there is a GPU that has it. Needs trl and datasets; written for trl 1.16.
"""

import argparse
import json
import re
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


def main() -> None:
    """Reads the options, checks the data, trains, saves."""
    said = json.loads((HERE / "export.json").read_text("utf-8"))
    parser = argparse.ArgumentParser(description="Full fine-tuning on silver traces with TRL.")
    model = str(HERE / said["model"]) if (HERE / said["model"]).exists() else said["model"]
    parser.add_argument("--model", default=model, help="path or Hub id (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("model"), help="folder of the trained model (default: %(default)s)")
    parser.add_argument(
        "--max-length", type=int, default=said["max_length"], help="longer rows are left out (default: %(default)s)"
    )
    parser.add_argument("--chat-template", type=Path, help="Jinja file with {%% generation %%} markers (default: the model's)")
    parser.add_argument("--eos-token", help="the token that ends a turn (default: the tokenizer's end-of-text token)")
    parser.add_argument("--learning-rate", type=float, default=1e-6, help="peak (default: %(default)s)")
    parser.add_argument("--epochs", type=float, default=2.0, help="passes over the rows (default: %(default)s)")
    parser.add_argument("--max-steps", type=int, default=-1, help="stop after so many steps (default: the epochs)")
    parser.add_argument("--seed", type=int, default=0, help="order of the rows (default: %(default)s)")
    options = parser.parse_args()

    from datasets import load_dataset
    from transformers import AutoTokenizer, set_seed

    set_seed(options.seed)
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    tokenizer.chat_template = training_template(tokenizer, options.chat_template)
    rows = load_dataset("parquet", data_files=str(HERE / "data" / "*.parquet"), split="train")
    train(options, tokenizer, fitting(rows, tokenizer, options.max_length))


def training_template(tokenizer: Any, path: Path | None) -> str:
    """The chat template with markers round the assistant's tokens: the file's, the model's own, or TRL's version of it."""
    from trl.chat_template_utils import get_training_chat_template

    if path is not None:
        tokenizer.chat_template = path.read_text("utf-8")
        for token in sorted(set(re.findall(r"<\|\w{1,40}\|>", tokenizer.chat_template))):
            if tokenizer.convert_tokens_to_ids(token) in (None, tokenizer.unk_token_id):
                raise SystemExit(f"{path} uses {token}, which is no token of this model; write the model's own into it")
    if not tokenizer.chat_template:
        raise SystemExit("the tokenizer has no chat template; give one: --chat-template chatml.jinja")
    try:
        return str(get_training_chat_template(tokenizer) or tokenizer.chat_template)
    except ValueError as error:
        raise SystemExit(
            "the chat template has no {% generation %} markers and TRL knows no version with them; give one: "
            "--chat-template chatml.jinja"
        ) from error


def fitting(rows: Any, tokenizer: Any, limit: int) -> Any:
    """The rows of at most `limit` tokens, after checks that a whole trace is rendered and that its tokens alone are trained."""

    def measured(row: dict[str, Any]) -> dict[str, int]:
        text = tokenizer.apply_chat_template(row["messages"], tokenize=False)
        if row["messages"][-1]["content"].strip() not in text:
            raise SystemExit(
                "the chat template drops a part of the assistant turn (often what stands in <think>); give another one"
            )
        if text.count("<think>") > sum(turn["content"].count("<think>") for turn in row["messages"]):
            raise SystemExit("the chat template adds a <think> of its own to the assistant turn; give another one")
        encoded = tokenizer.apply_chat_template(row["messages"], return_dict=True, return_assistant_tokens_mask=True)
        return {"length": len(encoded["input_ids"]), "trained": sum(encoded["assistant_masks"])}

    found = rows.map(measured, desc="counting tokens")
    bare = sum(not 0 < trained < length for trained, length in zip(found["trained"], found["length"], strict=True))
    if bare:
        raise SystemExit(
            f"{bare:,} of {len(rows):,} rows would train on none or on all of their tokens: mend the template's markers"
        )
    kept = found.filter(lambda length: length <= limit, input_columns="length")
    if not len(kept):
        raise SystemExit(f"no row has at most {limit:,} tokens; the shortest has {min(found['length']):,}: raise --max-length")
    share, lost = sum(kept["trained"]) / sum(kept["length"]), len(rows) - len(kept)
    print(f"{len(rows):,} rows = {len(kept):,} kept + {lost:,} over {limit:,} tokens; {share:.1%} of the tokens are trained")
    return kept.select_columns(["messages"])


def train(options: argparse.Namespace, tokenizer: Any, rows: Any) -> None:
    """Trains on `rows` and saves the model."""
    import torch
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    on_gpu = torch.cuda.is_available()
    config = SFTConfig(
        output_dir=str(options.output),
        assistant_only_loss=True,
        max_length=options.max_length,
        eos_token=options.eos_token,
        learning_rate=options.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=0.05,
        num_train_epochs=options.epochs,
        max_steps=options.max_steps,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=1,
        adam_beta1=0.9,
        adam_beta2=0.95,
        weight_decay=1e-4,
        bf16=on_gpu and torch.cuda.is_bf16_supported(),
        gradient_checkpointing=on_gpu,
        seed=options.seed,
        logging_steps=10,
        save_strategy="no",
        report_to="none",
    )
    trainer = SFTTrainer(model=options.model, args=config, train_dataset=rows, processing_class=tokenizer)
    result = trainer.train()
    trainer.save_model(str(options.output))
    print(f"{result.global_step:,} steps, mean loss {result.training_loss:.3f}; saved to {options.output}")


if __name__ == "__main__":
    main()
