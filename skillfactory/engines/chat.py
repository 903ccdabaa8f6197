"""Prompts of token ids: messages through a tokenizer's chat template, and the tokens that end the model's turn."""

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from skillfactory.errors import ConfigError
from skillfactory.flow import Message

_MARK = "content-of-the-turn"


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

    def _render(self, messages: tuple[Message, ...], add_generation_prompt: bool) -> str:
        turns = [{"role": role, "content": content} for role, content in messages]
        text: str = self._tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=add_generation_prompt)
        return text
