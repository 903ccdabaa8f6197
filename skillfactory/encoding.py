"""Examples as token ids with an exact loss mask: what bears loss is the answer with its end token, and nothing else.

One encoder serves every way to a trainer, so that they agree token for token.
"""

import copy
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from skillfactory.embedded import located
from skillfactory.errors import ConfigError, InputError, require
from skillfactory.masks import Mask, Span, silent
from skillfactory.tracefiles import TraceFiles

IGNORED = -100  # the label that torch's losses pass over
Ids = npt.NDArray[np.int32]
_REMEDY = "give another: --chat-template FILE"


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt and what the model learns to answer: turns of a chat, or raw text if `raw`."""

    id: str
    prompt: str
    response: str
    silent: tuple[Span, ...] = ()  # characters of the response that bear no loss
    raw: bool = False


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


class Rendered(NamedTuple):
    """A chat as text and as tokens."""

    text: str
    turn: Span  # the characters of the assistant's turn that may bear loss: from its first word to its end token
    ids: Ids
    places: npt.NDArray[np.int64]  # for each token the characters that it stands for, the end excluded


class Encoder:
    """A tokenizer with its chat template, which turns examples into rows of at most `limit` tokens."""

    def __init__(self, tokenizer: Any, limit: int) -> None:
        if not tokenizer.is_fast:
            raise ConfigError(
                f"the tokenizer ({type(tokenizer).__name__}) doesn't tell where its tokens stand: it is no fast one"
            )
        self._tokenizer, self.limit = _untrimmed(tokenizer), limit
        # tokenizers have special tokens without a name, too: with one it may be the end of a text, while another ends a turn
        marked = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
        self._special = np.array(sorted({*tokenizer.all_special_ids, *marked} - {tokenizer.unk_token_id}), np.int32)
        self._template: str | None = None
        self.end_token: int | None = None  # the one that ends a turn, once a chat has come

    def rows(self, examples: Sequence[Example]) -> Iterator[Row | Refused]:
        """For each example its row, or why there is none."""
        chats = [example for example in examples if not example.raw]
        rendered = iter(self.rendered(chats))
        for example in examples:
            row = self._text(example) if example.raw else self._masked(example, next(rendered))
            if isinstance(row, Row):
                if len(row.ids) > self.limit:
                    row = Refused.TOO_LONG
                elif not row.trained:
                    row = Refused.NO_LOSS
            yield row

    def rendered(self, examples: Sequence[Example]) -> Iterator[Rendered]:
        """The examples as chats; ConfigError if the template shows a turn other than it is or doesn't mark it."""
        if not examples:
            return
        chats = [[_turn("user", example.prompt), _turn("assistant", example.response)] for example in examples]
        texts, turns = self._render(chats, marked=True)
        shown, _ = self._render([chat[:1] for chat in chats], marked=False)
        if any(len(found) != 1 for found in turns):
            raise ConfigError(f"the chat template marks no assistant turn, or several for one; {_REMEDY}")
        found = self._tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)
        for n, example in enumerate(examples):
            ids = np.array(found["input_ids"][n], np.int32)
            places = np.array(found["offset_mapping"][n], np.int64).reshape(-1, 2)
            begin, end = turns[n][0]
            content = _place(example.response, texts[n], (begin, end))
            if texts[n].startswith(shown[n]):  # white space that the model is shown is not for it to learn
                begin = max(begin, min(len(shown[n]), content))
            end = self._ending(texts[n], content + len(example.response.strip()), end, ids, places)
            yield Rendered(texts[n], (begin, end), ids, places)

    def _text(self, example: Example) -> Row:
        """Raw text: no template, no end token, the loss on the completion."""
        prompt, completion = (self._plain(text) for text in (example.prompt, example.response))
        return Row(np.concatenate([prompt, completion]), np.concatenate([np.full_like(prompt, IGNORED), completion]))

    def _plain(self, text: str) -> Ids:
        return np.array(self._tokenizer(text, add_special_tokens=False)["input_ids"], np.int32)

    def _render(self, chats: list[list[dict[str, str]]], marked: bool) -> tuple[list[str], list[list[Span]]]:
        """The chats as text: `marked`, with where the assistant's turns stand in each; else as a model is shown them."""
        from transformers.utils.chat_template_utils import render_jinja_template

        if self._template is None:
            self._template = training_template(self._tokenizer)
        texts, turns = render_jinja_template(
            chats,
            chat_template=self._template,
            return_assistant_tokens_mask=marked,
            add_generation_prompt=not marked,
            **self._tokenizer.special_tokens_map,
        )
        return texts, turns

    def _ending(self, text: str, content: int, end: int, ids: Ids, places: npt.NDArray[np.int64]) -> int:
        """Where the turn's end token ends, which is noted; `content` is where the response ends, `end` where the markers do.

        What stands behind it, often a new line, is never for the model to write. ConfigError if the markers leave the token
        out: the model would never learn to stop.
        """
        if not text[content:end].strip():
            raise ConfigError(f"the chat template's markers leave out the token that ends the assistant's turn; {_REMEDY}")
        starts, ends = places.T
        closing = (starts >= content) & (ends <= end) & np.isin(ids, self._special)
        self.end_token = int(ids[closing][-1]) if closing.any() else None
        return int(ends[closing][-1]) if closing.any() else end

    def _masked(self, example: Example, found: Rendered) -> Row | Refused:
        """The row of a chat: the turn bears loss, but for tokens that touch a silent character."""
        text, (begin, end), ids, places = found
        content = _place(example.response, text, found.turn)
        starts, ends = places.T
        if any(((starts < border) & (border < ends)).any() for border in found.turn):
            return Refused.BLURRED
        inside = (starts >= begin) & (ends <= end) & ((ends > starts) | ((starts > begin) & (ends < end)))
        words = example.response.strip()
        if np.isin(ids[inside & (starts < content + len(words))], self._special).any():
            return Refused.SPECIAL_TOKEN
        before = len(example.response) - len(example.response.lstrip())
        after = example.response[before + len(words) :]
        pairs = zip(after, text[content + len(words) : end], strict=False)
        kept = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))  # templates may strip it
        for first, last in example.silent:
            first, last = (min(place - before, len(words) + kept) + content for place in (first, last))
            inside &= ~((starts < last) & (ends > first))
        return Row(ids, np.where(inside, ids, IGNORED).astype(np.int32))


def _turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _untrimmed(tokenizer: Any) -> Any:
    """A tokenizer whose places hold the white space of its tokens too; many leave it out, and what is all space has none."""
    backend = tokenizer.backend_tokenizer
    if backend.post_processor is None or b'"trim_offsets":true' not in backend.post_processor.__getstate__():
        return tokenizer
    from tokenizers.processors import ByteLevel

    own = copy.deepcopy(tokenizer)
    # all that the other one would do besides is to add tokens, which we never ask for
    own.backend_tokenizer.post_processor = ByteLevel(trim_offsets=False)
    return own


def _place(response: str, text: str, turn: Span) -> int:
    """Where the response begins in the rendered text; ConfigError if the template drops a part of it or adds to it."""
    at = text.find(response.strip(), *turn)
    if at < 0:
        raise ConfigError(f"the chat template drops a part of the assistant's turn (often what stands in <think>); {_REMEDY}")
    if text[turn[0] : at].strip():
        raise ConfigError(f"the chat template puts {text[turn[0] : at].strip()!r} before the assistant's words; {_REMEDY}")
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


def tokenizer_of(name: str, chat_template: Path | None = None) -> Any:
    """The tokenizer of a model (a folder, a Hub id or an embedded model), with another chat template if one is given."""
    transformers = require("transformers", "train")
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(located(name))
    except (OSError, ValueError, ImportError) as error:
        raise InputError(f"the model '{name}' can't be loaded: its tokenizer: {error}") from error
    if chat_template is not None:
        tokenizer.chat_template = template_from(chat_template, tokenizer)
    return tokenizer


def columns(mask: Mask) -> list[str]:
    """The columns of traces that their examples are made of."""
    return ["trace_id", "conversations", *(["segments"] if mask != "none" else [])]


def open_traces(directory: Path, mask: Mask) -> TraceFiles:
    """The traces in `directory`, checked to hold what the mask needs."""
    files = TraceFiles.open(directory, columns("none"))
    if mask != "none":
        try:
            return TraceFiles.open(directory, columns(mask))
        except InputError as error:
            raise InputError(f"{error}; --mask {mask} needs segments: build the traces anew, or use --mask none") from error
    return files


def examples(files: TraceFiles, part: Path, mask: Mask, size: int = 256) -> Iterator[list[Example]]:
    """The traces of a part file as examples, up to `size` at a time; InputError, with the trace's id, for one that is none."""
    for batch in files.batches(part, columns(mask), size):
        found = []
        for row in batch.to_pylist():
            turns, segments = row["conversations"], row.get("segments", ())
            if [turn["role"] for turn in turns] != ["user", "assistant"]:
                raise InputError(f"{part}: {row['trace_id']}: expected a user's turn and an assistant's")
            if segments is None:
                raise InputError(f"{part}: {row['trace_id']}: has no segments, which --mask {mask} needs; use --mask none")
            found.append(Example(row["trace_id"], turns[0]["content"], turns[1]["content"], silent(segments, mask)))
        yield found
