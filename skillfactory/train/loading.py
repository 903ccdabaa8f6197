"""Models in and out: loading one to train, keeping the libraries quiet, saving it as a plain transformers folder.

Importing it loads torch and transformers.
"""

import contextlib
import copy
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM
from transformers.utils import logging

from skillfactory.embedded import located
from skillfactory.encoding import tokenizer_of
from skillfactory.errors import InputError
from skillfactory.hardware import threads_for


@dataclass(frozen=True, slots=True)
class Base:
    """A model to train, in float32, with what must be as it was when it is saved."""

    model: Any
    tokenizer: Any
    dtype: torch.dtype  # the checkpoint's
    generation: Any  # its generation config
    tokens: dict[str, Any]  # its special tokens' ids, as the model's config tells them

    @property
    def context(self) -> int | None:
        """How many tokens it can take."""
        context: int | None = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        return context


def load(name: str, chat_template: Path | None = None) -> Base:
    """The model `name` (a folder, a Hub id or an embedded model) and its tokenizer, with another chat template if one is given.

    Torch gets the number of threads that suits the model.
    """
    place = located(name)
    tokenizer = tokenizer_of(name, chat_template)
    try:
        model = AutoModelForCausalLM.from_pretrained(place, dtype="auto")
    except (OSError, ValueError, ImportError) as error:
        raise InputError(f"the model '{name}' can't be loaded: {error}") from error
    dtype = model.dtype
    model = model.float()
    threads = threads_for(model.num_parameters())
    if threads is not None:
        torch.set_num_threads(threads)
    tokens = {f"{kind}_token_id": getattr(model.config, f"{kind}_token_id", None) for kind in ("bos", "eos", "pad")}
    return Base(model, tokenizer, dtype, copy.deepcopy(model.generation_config), tokens)


def saved(model: Any, base: Base, end_token: int | None, folder: Path) -> None:
    """Writes the model, in the precision of its base, and the tokenizer; generation stops at `end_token` too."""
    for name, value in base.tokens.items():
        setattr(model.config, name, value)
    generation = copy.deepcopy(base.generation)
    declared = generation.eos_token_id
    ends = [declared] if isinstance(declared, int) else list(declared or ())
    if end_token is not None and end_token not in ends:
        generation.eos_token_id = [*ends, end_token]
    model.generation_config = generation
    model.to(base.dtype).save_pretrained(folder)
    base.tokenizer.save_pretrained(folder)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences the bars, notes and warnings of the libraries; errors are still raised."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
