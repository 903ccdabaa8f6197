"""Examples as token ids with an exact loss mask: what bears loss is the answer with its end token, and nothing else."""

import re
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from skillfactory.errors import ConfigError, require
from skillfactory.train.examples import Example

IGNORED = -100  # the label that torch's losses pass over
Ids = npt.NDArray[np.int32]


class Row(NamedTuple):
    """The tokens of an example; `labels` are the same ones, IGNORED where there is no loss."""

    ids: Ids
    labels: Ids

    @property
    def trained(self) -> int:
        """How many tokens bear loss. The first one can't: nothing comes before it."""
        return int((self.labels[1:] != IGNORED).sum())


class Refused(StrEnum):
    """Why an example can't be learnt from."""

    TOO_LONG = "too_long"  # over the context: a trainer would cut it
    SPECIAL_TOKEN = "special_token"  # the answer holds what the tokenizer takes for a token of the chat's frame
    NO_LOSS = "no_loss"  # no token bears loss
    BLURRED = "blurred_border"  # a token belongs to the answer and to what stands around it


class Encoder:
    """A tokenizer with its chat template, which turns examples into rows of at most `limit` tokens."""

    def __init__(self, tokenizer: Any, limit: int) -> None:
        if not tokenizer.is_fast:
            raise ConfigError(
                f"the tokenizer ({type(tokenizer).__name__}) doesn't tell where its tokens stand: it is no fast one"
            )
        self._tokenizer, self.limit = tokenizer, limit
        self._special = np.array(sorted({*tokenizer.all_special_ids} - {tokenizer.unk_token_id}), np.int32)
        self._template: str | None = None
        self.end_token: int | None = None  # the one that ends a turn, once a chat has come

    def rows(self, examples: Sequence[Example]) -> Iterator[Row | Refused]:
        """For each example its row, or why there is none."""
        chats = [example for example in examples if not example.raw]
        marked = iter(self._chats(chats))
        for example in examples:
            row = self._text(example) if example.raw else next(marked)
            if isinstance(row, Row):
                if len(row.ids) > self.limit:
                    row = Refused.TOO_LONG
                elif not row.trained:
                    row = Refused.NO_LOSS
            yield row

    def _text(self, example: Example) -> Row:
        """Raw text: no template, no end token, the loss on the completion."""
        prompt, completion = (self._plain(text) for text in (example.prompt, example.response))
        return Row(np.concatenate([prompt, completion]), np.concatenate([np.full_like(prompt, IGNORED), completion]))

    def _plain(self, text: str) -> Ids:
        return np.array(self._tokenizer(text, add_special_tokens=False)["input_ids"], np.int32)

    def _chats(self, examples: Sequence[Example]) -> Iterator[Row | Refused]:
        if not examples:
            return
        chats = [[_turn("user", example.prompt), _turn("assistant", example.response)] for example in examples]
        texts, spans = self._rendered(chats)
        found = self._tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)
        for n, example in enumerate(examples):
            ids = np.array(found["input_ids"][n], np.int32)
            places = np.array(found["offset_mapping"][n], np.int64).reshape(-1, 2)
            yield self._masked(example, texts[n], spans[n], ids, places)

    def _rendered(self, chats: list[list[dict[str, str]]]) -> tuple[list[str], list[tuple[int, int]]]:
        """The chats as text, and where the assistant's turn stands in each, its end token included."""
        from transformers.utils.chat_template_utils import render_jinja_template

        if self._template is None:
            self._template = training_template(self._tokenizer)
        texts, turns = render_jinja_template(
            chats, chat_template=self._template, return_assistant_tokens_mask=True, **self._tokenizer.special_tokens_map
        )
        if any(len(found) != 1 for found in turns):
            raise ConfigError(
                "the chat template marks no assistant turn, or several for one; give another: --chat-template FILE"
            )
        return texts, [found[0] for found in turns]

    def _masked(
        self, example: Example, text: str, turn: tuple[int, int], ids: Ids, places: npt.NDArray[np.int64]
    ) -> Row | Refused:
        """The row of a chat whose assistant turn is the characters `turn` of `text`."""
        begin, end = turn
        content = _place(example.response, text, turn)
        starts, ends = places.T
        if any(((starts < border) & (border < ends)).any() for border in turn):
            return Refused.BLURRED
        inside = (starts >= begin) & (ends <= end) & (ends > starts)
        within = inside & (starts < content + len(example.response.strip()))
        if np.isin(ids[within], self._special).any():
            return Refused.SPECIAL_TOKEN
        self._check_end(text[content + len(example.response.strip()) : end], ids[inside])
        shift = content - (len(example.response) - len(example.response.lstrip()))
        for first, last in example.silent:
            inside &= ~((starts < last + shift) & (ends > first + shift))
        return Row(ids, np.where(inside, ids, IGNORED).astype(np.int32))

    def _check_end(self, tail: str, trained: Ids) -> None:
        """Notes the end token; ConfigError if the template leaves it unmarked: the model would never learn to stop."""
        if not tail.strip():
            raise ConfigError(
                "the chat template's markers leave out the token that ends the assistant's turn; give another: "
                "--chat-template FILE"
            )
        self.end_token = int(trained[np.isin(trained, self._special)][-1]) if np.isin(trained, self._special).any() else None


def _turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _place(response: str, text: str, turn: tuple[int, int]) -> int:
    """Where the response begins in the rendered text; ConfigError if the template drops a part of it or adds to it."""
    at = text.find(response.strip(), *turn)
    if at < 0:
        raise ConfigError(
            "the chat template drops a part of the assistant's turn (often what stands in <think>); give another: "
            "--chat-template FILE"
        )
    if text[turn[0] : at].strip():
        raise ConfigError(
            f"the chat template puts {text[turn[0] : at].strip()!r} before the assistant's words; give another: "
            "--chat-template FILE"
        )
    return at


def training_template(tokenizer: Any) -> str:
    """The tokenizer's chat template with markers round the assistant's tokens: its own, or TRL's version of it."""
    if not tokenizer.chat_template:
        raise ConfigError("the tokenizer has no chat template; give one: --chat-template FILE")
    known = require("trl.chat_template_utils", "train")
    try:
        return str(known.get_training_chat_template(tokenizer) or tokenizer.chat_template)
    except ValueError as error:
        raise ConfigError(
            "the chat template has no {% generation %} markers, and TRL knows no version with them; give one with markers: "
            "--chat-template FILE"
        ) from error


def template_from(path: Path, tokenizer: Any) -> str:
    """The chat template that a file holds; ConfigError if it uses a token that the model hasn't got."""
    if not path.is_file():
        raise ConfigError(f"chat_template: there is no file '{path}'; give the path of a Jinja template")
    template = path.read_text("utf-8")
    for token in sorted(set(re.findall(r"<\|\w{1,40}\|>", template))):
        if tokenizer.convert_tokens_to_ids(token) in (None, tokenizer.unk_token_id):
            raise ConfigError(f"{path} uses {token}, which is no token of this model; write the model's own into it")
    return template
