"""The silver traces for verl's SFT trainer, with the loss on the assistant's words and the token that ends them, no other.

verl loads `SilverTraces` from this file (data.custom_cls). Run as a script, it tells whether verl, as installed here, would
train on this folder as it is meant to; it needs no GPU:  python dataset.py [KEY=VALUE ...]
"""

import argparse
import contextlib
import copy
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers.processors import ByteLevel

try:
    from verl.utils.dataset.multiturn_sft_dataset import MultiTurnSFTDataset
except ImportError as error:
    raise ImportError("verl isn't installed here, or isn't made like the one that README.md names") from error

HERE = Path(__file__).resolve().parent
CHECKED = ("0.9.1",)  # versions of verl that this folder was checked with


class SilverTraces(MultiTurnSFTDataset):  # type: ignore[misc]
    """The rows of verl's own data set, with other tokens: each chat is tokenized as one text, with an exact mask.

    verl's own does so turn by turn, refuses templates whose turns share a token, trains what follows the end token too, and
    knows no parts of turns. A message's `silent`, where there is one, holds the characters that bear no loss: begin and end,
    the end excluded.
    """

    def __getitem__(self, item: int) -> dict[str, Any]:
        """The tokens of a row with their loss mask; ValueError if it is too long or the chat template changes the turn."""
        if self.pad_mode != "no_padding":
            raise ValueError("data.pad_mode must be no_padding, which pads no row")
        turns = self._build_messages(self.dataframe.iloc[item].to_dict())
        options = self._template_options(item)
        text = self.tokenizer.apply_chat_template(turns, tokenize=False, **options)
        shown = self.tokenizer.apply_chat_template(turns[:-1], tokenize=False, add_generation_prompt=True, **options)
        found = self._places()(text, add_special_tokens=False, return_offsets_mapping=True)
        ids, places = found["input_ids"], found["offset_mapping"]
        if len(ids) > self.max_length:
            raise ValueError(f"{len(ids):,} tokens are more than data.max_length={self.max_length}")
        response = turns[-1]["content"]
        begin = text.rfind(response.strip())
        if begin < 0:
            raise ValueError("the chat template drops a part of the assistant's turn (often what stands in <think>)")
        if not text.startswith(shown) or text[len(shown) : begin].strip():
            raise ValueError("the chat template puts something of its own before the assistant's words")
        if any(first < begin < stop for first, stop in places):
            raise ValueError("a token belongs both to the prompt and to the assistant's words")
        mask = self._mask(turns[-1], begin, ids, places)
        return {
            "input_ids": torch.tensor(ids),
            "position_ids": torch.arange(len(ids)),
            "loss_mask": torch.tensor(mask),
        }

    def _mask(self, turn: dict[str, Any], begin: int, ids: Sequence[int], places: Sequence[tuple[int, int]]) -> list[int]:
        """1 for each token that bears loss, else 0; the assistant's words begin at the character `begin`."""
        response = turn["content"]
        end, shift = begin + len(response.strip()), begin - (len(response) - len(response.lstrip()))
        silent = [(span["start"] + shift, min(span["end"] + shift, end)) for span in turn.get("silent") or ()]
        last = self._last(ids, places, end)
        return [
            int(begin <= first and n <= last and not any(first < until and stop > since for since, until in silent))
            for n, (first, stop) in enumerate(places)
        ]

    def _places(self) -> Any:
        """The tokenizer, made to count the white space of its tokens as theirs: many leave it out of the places they tell."""
        if getattr(self, "_untrimmed", None) is None:
            self._untrimmed = copy.deepcopy(self.tokenizer)
            backend = self._untrimmed.backend_tokenizer
            if backend.post_processor is not None and b'"trim_offsets":true' in backend.post_processor.__getstate__():
                backend.post_processor = ByteLevel(trim_offsets=False)
        return self._untrimmed

    def _template_options(self, item: int) -> dict[str, Any]:
        """What verl itself gives to the chat template."""
        thinking = self.enable_thinking[item] if self.enable_thinking is not None else self.enable_thinking_default
        options = dict(self.apply_chat_template_kwargs)
        return options if thinking is None else options | {"enable_thinking": bool(thinking)}

    def _last(self, ids: Sequence[int], places: Sequence[tuple[int, int]], end: int) -> int:
        """The place of the token that ends the turn whose words end at the character `end`."""
        unnamed = {number for number, token in self.tokenizer.added_tokens_decoder.items() if token.special}
        frame = {*self.tokenizer.all_special_ids, *unnamed} - {self.tokenizer.unk_token_id}
        for n, (token, (first, _)) in enumerate(zip(ids, places, strict=True)):
            if first >= end and token in frame:
                return n
        raise ValueError("the chat template ends no turn with a special token: the model would never learn to stop")


def overrides() -> Iterator[str]:
    """The lines of overrides.txt with this folder and the number of GPUs put in."""
    here = str(HERE).replace("\\", "\\\\").replace('"', '\\"')
    for line in (HERE / "overrides.txt").read_text("utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            yield line.strip().replace("@HERE@", here).replace("@GPUS@", os.environ.get("GPUS", "1"))


def main() -> None:
    """Goes through all rows as verl would, or prints the options of train.sh."""
    parser = argparse.ArgumentParser(description="Whether verl would train on this folder as it is meant to.")
    parser.add_argument("--print", action="store_true", help="print the options of train.sh, one a line, and check nothing")
    parser.add_argument("extra", nargs="*", metavar="KEY=VALUE", help="what is added to train.sh's command")
    options = parser.parse_args()
    if options.print:
        print("\n".join(overrides()))
        return
    with contextlib.redirect_stdout(sys.stderr):  # verl talks a lot
        found = checked([*overrides(), *options.extra])
    print(found)


def checked(given: Sequence[str]) -> str:
    """What verl's data set makes of the rows; ends with an error where it isn't what it is meant to be."""
    import verl.trainer
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException
    from verl.trainer.sft_trainer import create_sft_dataset
    from verl.utils.config import omega_conf_to_dataclass

    if verl.__version__ not in CHECKED:
        print(f"dataset.py: warning: checked with verl {', '.join(CHECKED)}, not with {verl.__version__}", file=sys.stderr)
    try:
        with initialize_config_dir(config_dir=str(Path(verl.trainer.__file__).parent / "config"), version_base=None):
            config = compose("sft_trainer_engine", overrides=[*given])
    except (HydraException, OmegaConfBaseException) as error:
        raise SystemExit(f"dataset.py: verl doesn't take these options: {' '.join(str(error).split())}") from error
    try:
        model, *_ = (omega_conf_to_dataclass(config[name]) for name in ("model", "engine", "optim", "checkpoint"))
    except (OSError, ValueError) as error:
        raise SystemExit(f"dataset.py: verl can't read {config.model.path} or its options: {error}") from error
    rows = create_sft_dataset(config.data.train_files, config.data, model.tokenizer, model.processor)
    if type(rows).__name__ != SilverTraces.__name__:
        raise SystemExit(
            f"dataset.py: verl would read the rows with {type(rows).__name__}, not with SilverTraces; mend data.custom_cls"
        )
    tokens = trained = 0
    for n in range(len(rows)):
        try:
            row = rows[n]
        except (AssertionError, ValueError) as error:
            raise SystemExit(f"dataset.py: row {n} of {len(rows):,}: {error}") from error
        tokens, trained = tokens + len(row["input_ids"]), trained + int(row["loss_mask"].sum())
    if len(rows) < config.data.train_batch_size:
        raise SystemExit(f"dataset.py: {len(rows):,} rows don't fill a batch of {config.data.train_batch_size:,}")
    share = f"{trained / tokens:.1%} of {tokens:,} tokens trained"
    return f"{len(rows):,} rows, read by SilverTraces under verl {verl.__version__}; {share}"


if __name__ == "__main__":
    main()
