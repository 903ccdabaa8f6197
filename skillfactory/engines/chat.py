"""Prompts of token ids: messages through a tokenizer's chat template, and the tokens that end the model's turn."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from skillfactory.errors import ConfigError
from skillfactory.flow import Completion, Message, Request, Start, failed
from skillfactory.records import Stop

_MARK = "content-of-the-turn"


class Opening(NamedTuple):
    """The ids with which the model's turn begins, how many of them are forced on it, and why there are none if so."""

    ids: tuple[int, ...] = ()
    forced: int = 0
    error: str = ""


class Chat:
    """How a tokenizer of `transformers` writes a conversation.

    A tokenizer without a chat template gets the plain text: each message's content followed by a blank line, roles unnamed.
    """

    def __init__(self, tokenizer: Any, template: str | None = None) -> None:
        self._tokenizer = tokenizer
        tokenizer.model_max_length = 2**62  # the engines refuse what is too long; the tokenizer need not warn of it
        if template is not None:
            path = Path(template)
            if not path.is_file():
                raise ConfigError(f"chat_template: there is no file '{template}'; give the path of a Jinja template")
            tokenizer.chat_template = path.read_text(encoding="utf-8")
        # Samples of one prompt come one after the other, so a few prompts are enough to remember.
        self.encode = lru_cache(maxsize=1024)(self._encode)

    def _encode(self, messages: tuple[Message, ...]) -> tuple[int, ...]:
        """The token ids of a conversation up to where the model's turn begins."""
        if not self._tokenizer.chat_template:
            return tuple(self._tokenizer("".join(f"{content}\n\n" for _, content in messages))["input_ids"])
        text = self._render(messages, add_generation_prompt=True)
        return tuple(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def ends(self, declared: int | Iterable[int] | None) -> list[int]:
        """The ids of the tokens that end a turn: those `declared` by the model, the tokenizer's, and the template's own.

        A base model often declares its end of text alone, while the template closes a turn with another token.
        """
        ids = {declared} if isinstance(declared, int) else set(declared or ())
        if self._tokenizer.eos_token_id is not None:
            ids.add(self._tokenizer.eos_token_id)
        if self._tokenizer.chat_template:
            text = self._render((("user", "?"), ("assistant", _MARK)), add_generation_prompt=False)
            after = self._tokenizer(text.rpartition(_MARK)[2], add_special_tokens=False)["input_ids"]
            added = self._tokenizer.added_tokens_decoder
            if after and after[0] in added and added[after[0]].special:
                ids.add(after[0])
        return sorted(ids)

    def text(self, ids: Sequence[int]) -> str:
        """The text of ids, special tokens left out."""
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True)
        return text

    def opening(self, start: Start | None) -> Opening:
        """The ids of a request's start. A text that the tokenizer has no tokens for is an error, not an unknown token."""
        if start is None:
            return Opening()
        kept = self._kept(start.ids, start.until)
        if kept and kept[-1] in self._tokenizer.all_special_ids:  # the end token
            kept = kept[:-1]
        # What a model wrote or a user types is text: a special token spelled out in it must not become one.
        then = tuple(self._tokenizer(start.then, add_special_tokens=False, split_special_tokens=True)["input_ids"])
        unknown = self._tokenizer.unk_token_id
        if (start.then and not then) or (unknown is not None and unknown in then):
            return Opening(error=f"the tokenizer of the model has no tokens for {_brief(start.then)}")
        return Opening(kept + then, len(then))

    def refused(self, request: Request, opening: Opening, tokens: int, context: int) -> Completion | None:
        """The completion of a request that can't be put to the model, of `tokens` prompt tokens; None if it can.

        A turn that has begun already stands as it is when there is no room for more of it; a prompt without room has failed.
        """
        if opening.error:
            return failed(request, opening.error)
        if tokens < context:
            return None
        if request.start is None:
            return failed(request, f"the prompt has {tokens} tokens, and the model's context is {context}")
        begun = Completion(request.key, self.text(opening.ids), Stop.LENGTH, tokens, 0, request.sampling.max_tokens)
        return replace(begun.within(0), forced=opening.forced, ids=opening.ids if request.ids else None)

    def _kept(self, ids: tuple[int, ...], until: str) -> tuple[int, ...]:
        """The longest run of ids from the first on whose text ends before the first `until`; all of them if it isn't there."""
        text = self.text(ids)
        at = text.find(until) if until else -1
        if at < 0:
            return ids
        count = bisect_left(range(len(ids)), True, key=lambda n: until in self.text(ids[:n]))
        while not text[:at].startswith(self.text(ids[:count])):
            count -= 1
        return ids[:count]

    def _render(self, messages: tuple[Message, ...], add_generation_prompt: bool) -> str:
        turns = [{"role": role, "content": content} for role, content in messages]
        text: str = self._tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=add_generation_prompt)
        return text


def _brief(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:59] + "…")
