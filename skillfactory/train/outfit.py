"""What both trainers are given in the same way: the device and its precision, adapters, trackers.

Importing it loads torch; the names of trackers load transformers.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from skillfactory.errors import ConfigError, unknown
from skillfactory.train.checkpoints import Work
from skillfactory.train.sft import Computing, Lora

# Where the names of transformers differ: trackers' checks and packages.
_CHECKS = {"azure_ml": "azureml", "comet_ml": "comet", "flyte": "flytekit"}
_PACKAGES = {"azure_ml": "azureml-core", "comet_ml": "comet-ml", "flyte": "flytekit"}


def check(computing: Computing, trackers: Sequence[str]) -> None:
    """ConfigError for a GPU that isn't there, and for a tracker that is unknown or not installed."""
    if computing.device == "cuda" and not torch.cuda.is_available():
        built = "this torch is built without CUDA" if not torch.backends.cuda.is_built() else "torch finds no GPU"
        raise ConfigError(f"device: cuda, but {built}; use --device cpu or auto, or install a torch that fits the GPU's driver")
    if trackers:
        from transformers.integrations import integration_utils as known

        for name in trackers:
            if name not in known.INTEGRATION_TO_CALLBACK:
                raise unknown("tracker", name, known.INTEGRATION_TO_CALLBACK)
            available = getattr(known, f"is_{_CHECKS.get(name, name)}_available", None)
            if available is not None and not available():
                package = _PACKAGES.get(name, name)
                raise ConfigError(f"report_to: {name} isn't installed; install it with: pip install {package}")


def in_bfloat16(precision: str, native: bool) -> bool:
    """Whether to compute in bfloat16; `native` says whether there is a GPU that can."""
    return native if precision == "auto" else precision == "bfloat16"


def arguments(computing: Computing, trackers: Sequence[str], output: Path) -> dict[str, Any]:
    """The arguments of a trainer that say where it runs, how precisely, and to whom it reports under which name."""
    on_gpu = computing.device != "cpu" and torch.cuda.is_available()
    native = on_gpu and torch.cuda.is_bf16_supported(including_emulation=False)
    checkpointing = computing.gradient_checkpointing
    return {
        "use_cpu": not on_gpu,
        "bf16": in_bfloat16(computing.precision, native),
        "gradient_checkpointing": on_gpu if checkpointing == "auto" else checkpointing == "on",
        "dataloader_pin_memory": on_gpu,
        "report_to": list(trackers) or "none",
        "run_name": output.resolve().name,
        "disable_tqdm": True,
    }


def adapters(lora: Lora) -> Any:
    """The configuration of adapters, None for full fine-tuning."""
    if not lora.lora_rank:
        return None
    from peft import LoraConfig

    return LoraConfig(
        r=lora.lora_rank,
        lora_alpha=lora.lora_alpha or 2 * lora.lora_rank,
        lora_dropout=lora.lora_dropout,
        target_modules=list(lora.lora_modules) or "all-linear",
        task_type="CAUSAL_LM",
    )


@contextlib.contextmanager
def tracked(work: Work, trackers: Sequence[str]) -> Iterator[None]:
    """Has trackers write into the folder's tracking/, where the user's environment names no other place."""
    places = {"tensorboard": "TENSORBOARD_LOGGING_DIR", "wandb": "WANDB_DIR"}
    ours = [variable for name, variable in places.items() if name in trackers and variable not in os.environ]
    if ours:
        work.tracking.mkdir(exist_ok=True)
    os.environ.update(dict.fromkeys(ours, str(work.tracking.resolve())))
    try:
        yield
    finally:
        for variable in ours:
            os.environ.pop(variable, None)
