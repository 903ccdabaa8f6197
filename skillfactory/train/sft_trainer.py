"""TRL's trainer as `sft` uses it: rows come ready and in their order, and what it would print or write beside is off.

Importing it loads trl.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from datasets import Dataset
from transformers.trainer_callback import PrinterCallback
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from skillfactory.encoding import IGNORED
from skillfactory.progress import Progress
from skillfactory.train.checkpoints import Work
from skillfactory.train.loading import Base
from skillfactory.train.material import Material
from skillfactory.train.outfit import adapters, arguments, tracked
from skillfactory.train.watch import Watch

if TYPE_CHECKING:
    from skillfactory.train.sft import SftConfig


class _Trainer(SFTTrainer):  # type: ignore[misc]
    """Counts tokens in totals that survive a kill, and writes no card of its own."""

    totals: dict[str, float]

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
        """A forward and a backward pass."""
        self.totals["tokens"] = self.totals.get("tokens", 0) + int(inputs["attention_mask"].sum())
        self.totals["trained_tokens"] = self.totals.get("trained_tokens", 0) + int((inputs["labels"][:, 1:] != IGNORED).sum())
        return super().training_step(model, inputs, num_items_in_batch)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Logs without the token count of this process alone."""
        self._metrics["train"].pop("num_tokens", None)
        super().log(logs, start_time)

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Nothing: checkpoints need no card, and the model gets ours."""


def trained(
    config: "SftConfig", base: Base, material: Material, steps: int, work: Work, progress: Progress
) -> tuple[Any, dict[str, float]]:
    """The trained model, adapters merged, and the totals of the training."""
    watch = Watch(work, progress, "train", rounds=config.optimisation.epochs)
    trainer = _Trainer(
        model=base.model,
        args=_arguments(config, steps, work.checkpoints),
        train_dataset=_dataset(material),
        processing_class=base.tokenizer,
        callbacks=[watch],
        peft_config=adapters(config.lora),
    )
    trainer.totals = watch.totals
    trainer.remove_callback(PrinterCallback)
    with tracked(work, config.running.report_to):
        result = trainer.train(resume_from_checkpoint=str(work.resume.folder) if work.resume else None)
    model = trainer.accelerator.unwrap_model(trainer.model)
    if config.lora.lora_rank:
        model.save_pretrained(work.staged / "adapter")
        model = model.merge_and_unload()
    return model, {"steps": result.global_step, **watch.totals}


def _dataset(material: Material) -> Any:
    """The rows in the order in which they are learnt."""
    columns = {"input_ids": [row.ids for row in material.rows], "labels": [row.labels for row in material.rows]}
    table = pa.table({name: pa.array(values, pa.list_(pa.int32())) for name, values in columns.items()})
    return Dataset(table).select(material.order)


def _arguments(config: "SftConfig", steps: int, checkpoints: Path) -> Any:
    how, running = config.optimisation, config.running
    return SFTConfig(
        output_dir=str(checkpoints),
        **arguments(running, running.report_to, config.output),
        learning_rate=how.learning_rate,
        lr_scheduler_type=how.schedule,
        warmup_steps=how.warmup,
        num_train_epochs=1,  # the rows come in the order of all epochs
        max_steps=steps,
        per_device_train_batch_size=how.batch_size,
        gradient_accumulation_steps=how.accumulate,
        adam_beta1=0.9,
        adam_beta2=0.95,
        weight_decay=how.weight_decay,
        max_grad_norm=how.clip,
        train_sampling_strategy="sequential",
        dataset_kwargs={"skip_prepare_dataset": True},
        max_length=None,
        seed=config.seed,
        logging_steps=running.log_steps,
        save_strategy="steps",
        save_steps=running.save_steps,
        log_level="error",
    )
