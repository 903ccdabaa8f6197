"""The length of a trace in tokens, and shorter plans for those that are too long. Nothing is ever cut."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from skillfactory.build.assemble import FullPool
from skillfactory.embedded import located
from skillfactory.errors import ConfigError, InputError, require
from skillfactory.layouts import Fit, Plan, lacking


class TokenCounter:
    """Counts the tokens of a chat as training will see it: the model's own tokenizer and chat template."""

    def __init__(self, tokenizer: str) -> None:
        transformers = require("transformers", "hf")
        try:
            self._tokenizer: Any = transformers.AutoTokenizer.from_pretrained(located(tokenizer))
        except (OSError, ValueError) as error:
            raise InputError(f"tokenizer '{tokenizer}' can't be loaded: {error}") from error
        self._name = tokenizer
        self._template = bool(self._tokenizer.chat_template)

    def count(self, prompt: str, response: str) -> int:
        """Tokens of the user turn and the assistant turn with all that the template puts around them.

        A tokenizer without a chat template counts prompt, line break, response and the end-of-text token. A template that
        drops a part of the response, as some do with what stands in `<think>`, is a ConfigError.
        """
        if not self._template:
            return len(self._ids(f"{prompt}\n{response}", True)) + 1
        chat = [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]
        text = self._tokenizer.apply_chat_template(chat, tokenize=False)
        if response not in text:
            raise ConfigError(
                f"the chat template of '{self._name}' drops a part of the assistant turn, so its tokens can't be counted, nor "
                "can a model be trained on it: give a tokenizer whose template keeps all, <think> included"
            )
        return len(self._ids(text, False))

    def _ids(self, text: str, special: bool) -> Sequence[int]:
        ids: Sequence[int] = self._tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"]
        return ids


def refit(chosen: Plan, plans: Sequence[Plan], pool: FullPool, unique_variants: bool) -> Plan | None:
    """`chosen` with its longest exchangeable part replaced by the shortest unused one of its kind; None if none is shorter."""
    used = {i for other in plans for i in other.picks}
    texts = {pool.attempt(i).text for i in used}
    reflected = chosen.layout.reflected
    for place in sorted(range(len(chosen.picks)), key=lambda k: -_size(chosen.picks[k], pool, reflected)):
        old = chosen.picks[place]
        spare = [
            i
            for i in range(len(pool.variants))
            if i not in used
            and pool.fits(i, chosen.wants[place], reflected) is Fit.YES
            and _size(i, pool, reflected) < _size(old, pool, reflected)
            and pool.attempt(i).text not in texts
            and not lacking(chosen.layout, pool.variants[i], pool.attempt(i).text)
            and (not unique_variants or pool.variants[i] not in {pool.variants[k] for k in chosen.picks if k != old})
        ]
        if spare:
            new = min(spare, key=lambda i: (_size(i, pool, reflected), i))
            picks = tuple(new if i == old else i for i in chosen.picks)
            return replace(chosen, picks=picks, back=new if chosen.back == old else chosen.back)
    return None


def _size(i: int, pool: FullPool, reflected: bool) -> int:
    """Characters of an attempt and its reflection: tokens are counted on whole traces only."""
    reflection = pool.reflection(i) if reflected else None
    return len(pool.attempt(i).text) + (len(reflection.text) if reflection else 0)
