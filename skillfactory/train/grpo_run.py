"""A reinforcement from its questions to the folder of the trained model.

Importing it loads trl.
"""

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset
from transformers import TrainerCallback
from transformers.trainer_callback import PrinterCallback
from trl.trainer.grpo_config import GRPOConfig

from skillfactory.engines.chat import Chat
from skillfactory.progress import Progress
from skillfactory.supply import Asked
from skillfactory.train import outfit
from skillfactory.train.checkpoints import METRICS, ROLLOUTS, Work
from skillfactory.train.grpo_trainer import Reinforcer
from skillfactory.train.loading import Base, saved
from skillfactory.train.questions import messages
from skillfactory.train.tally import Samples
from skillfactory.train.watch import Watch

if TYPE_CHECKING:
    from skillfactory.train.grpo import GrpoConfig


class Boundaries(TrainerCallback):  # type: ignore[misc]
    """What happens at the end of a step: the limit of tokens ends the training, and some steps' models are kept."""

    def __init__(self, config: "GrpoConfig", base: Base, end: int | None, work: Work, totals: dict[str, float]) -> None:
        self._config, self._base, self._end, self._work, self._totals = config, base, end, work, totals
        self.stopped_by = "steps"

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Looks whether a step is over (transformers calls every update one)."""
        step, update = divmod(state.global_step, self._config.updates)
        if update:
            return
        every, most = self._config.running.keep_every, self._config.reinforcement.max_generated_tokens
        if every and step % every == 0:
            keep(model, self._base, self._end, self._work.staged / "steps" / str(step), bool(self._config.lora.lora_rank))
            self._work.settle()
        if most is not None and self._totals["generated_tokens"] >= most:
            self.stopped_by = "tokens"
            control.should_training_stop = control.should_log = True
            control.should_save = False


def keep(model: Any, base: Base, end: int | None, folder: Any, adapters: bool) -> None:
    """Writes a copy of the model as a folder that loads by itself; the model stays as it is."""
    with torch.no_grad():
        twin = copy.deepcopy(model)
        saved(twin.merge_and_unload() if adapters else twin, base, end, folder)


def reinforced(config: "GrpoConfig", base: Base, asked: Sequence[Asked], work: Work, progress: Progress) -> dict[str, Any]:
    """Trains, stages the model for the folder, and gives back the totals."""
    watch = Watch(work, progress, "grpo", updates=config.updates)
    ends = ends_of(base)
    end = next((token for token in ends if token != base.tokenizer.eos_token_id), base.tokenizer.eos_token_id)
    boundaries = Boundaries(config, base, end, work, watch.totals)
    trainer = trainer_of(config, base, asked, arguments(config, work.checkpoints, ends), [watch, boundaries])
    trainer.totals = watch.totals
    running, resumed = config.running, work.resume.step if work.resume else 0
    if running.samples:
        work.own(ROLLOUTS)
    trainer.samples = Samples(work.folder / ROLLOUTS, running.sample_every, running.samples, resumed)
    with outfit.tracked(work, running.report_to):
        result = trainer.train(resume_from_checkpoint=str(work.resume.folder) if work.resume else None)
    model = trainer.accelerator.unwrap_model(trainer.model)
    if config.lora.lora_rank:
        model.save_pretrained(work.staged / "adapter")
        model = model.merge_and_unload()
    saved(model, base, end, work.staged)
    lines = (work.folder / METRICS).read_text("utf-8").splitlines()
    return {
        "steps": result.global_step // config.updates,
        **watch.totals,
        "stopped_by": boundaries.stopped_by,
        "first_reward": json.loads(lines[0])["reward"],
        "last_reward": json.loads(lines[-1])["reward"],
    }


def ends_of(base: Base) -> list[int]:
    """The tokens that end a response: those that the model declares, and the chat template's."""
    return Chat(base.tokenizer).ends(base.model.generation_config.eos_token_id)


def trainer_of(
    config: "GrpoConfig",
    base: Base,
    asked: Sequence[Asked],
    how: Any,
    callbacks: Sequence[Any],
    kind: type[Reinforcer] = Reinforcer,
) -> Reinforcer:
    """The trainer, ready to train; `how` is TRL's configuration."""
    rows = [{"prompt": messages(config.asking, one), "question": place} for place, one in enumerate(asked)]
    trainer = kind(
        config,
        asked,
        ends_of(base),
        model=base.model,
        args=how,
        train_dataset=Dataset.from_list(rows),
        processing_class=base.tokenizer,
        callbacks=list(callbacks),
        peft_config=outfit.adapters(config.lora),
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def arguments(config: "GrpoConfig", checkpoints: Path, ends: Sequence[int]) -> Any:
    """TRL's own configuration. Its step is an update; its batch is a whole mini-batch, which the loss cuts into pieces."""
    rollouts, how, running = config.rollouts, config.reinforcement, config.running
    mini = min(how.mini_batch, rollouts.prompts_per_step)
    return GRPOConfig(
        output_dir=str(checkpoints),
        **outfit.arguments(running, running.report_to, config.output),
        per_device_train_batch_size=mini * rollouts.group_size,
        gradient_accumulation_steps=1,
        steps_per_generation=rollouts.prompts_per_step // mini,
        num_iterations=how.iterations,
        num_generations=rollouts.group_size,
        max_completion_length=rollouts.max_new_tokens,
        temperature=rollouts.temperature,
        top_p=rollouts.top_p,
        top_k=rollouts.top_k,
        use_vllm=rollouts.vllm != "off",
        vllm_mode="colocate" if rollouts.vllm == "off" else rollouts.vllm,
        vllm_server_base_url=rollouts.vllm_url if rollouts.vllm == "server" else None,
        vllm_gpu_memory_utilization=rollouts.vllm_memory,
        generation_kwargs={"stop_token_ids": list(ends)} if rollouts.vllm != "off" else None,
        max_steps=config.most_steps * config.updates,
        learning_rate=how.learning_rate,
        lr_scheduler_type=how.schedule,
        warmup_steps=how.warmup * config.updates,
        beta=how.beta,
        loss_type=how.loss,
        scale_rewards=how.scale_rewards,
        epsilon=how.clip_low,
        epsilon_high=how.clip_high,
        weight_decay=how.weight_decay,
        adam_beta1=how.betas[0],
        adam_beta2=how.betas[1],
        max_grad_norm=how.max_grad_norm,
        seed=config.seed,
        logging_steps=config.updates,
        save_strategy="steps",
        save_steps=running.save_steps * config.updates,
    )
