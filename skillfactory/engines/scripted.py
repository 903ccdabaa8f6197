"""An engine whose answers come from a function: for tests, for dry runs, and as a model of an engine's timing."""

import heapq
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from skillfactory.engines import imported
from skillfactory.errors import ConfigError
from skillfactory.flow import Completion, Request
from skillfactory.records import Stop

Answer = Callable[[Request], str | Completion]


@dataclass(frozen=True)
class ScriptedOptions:
    """What answers, and how fast."""

    # An Answer, or where to import one from: configuration knows no type for functions.
    answer: Any = field(metadata={"help": "module:name of the function that makes a Request's text or Completion"})
    delay: float = field(default=0.0, metadata={"help": "seconds that each request takes"})
    concurrency: int = field(default=64, metadata={"help": "requests that are answered at the same time"})

    def __post_init__(self) -> None:
        if self.delay < 0 or self.concurrency < 1:
            raise ConfigError(
                f"the scripted engine needs delay >= 0 and concurrency >= 1, not {self.delay}, {self.concurrency}"
            )


class ScriptedEngine:
    """An engine that answers with a function, in the order asked, `concurrency` at a time, each after `delay` seconds.

    A token is a word: text between white space. Texts over the token limit are cut to it and end with `Stop.LENGTH`; a
    Completion from the function goes out as it is, but for its key. A pure function makes every run the same. For a request
    with a start the function gives what comes after it (`begun` tells it what there is). Ids are the characters' code points:
    any run of them is a text, and only they are not counted as tokens.
    """

    Options = ScriptedOptions

    def __init__(self, options: ScriptedOptions) -> None:
        self._options = options
        self._answer: Answer = imported(options.answer) if isinstance(options.answer, str) else options.answer
        if not callable(self._answer):
            raise ConfigError(f"the scripted engine needs a function to answer, and {options.answer!r} is none")
        self._hand: deque[tuple[float, Request]] = deque()  # (when it is finished, request): in order, as all take equally long
        self._free = [0.0] * options.concurrency  # when each place is free again, a heap

    @property
    def capacity(self) -> int:
        """As many as are answered at the same time."""
        return self._options.concurrency

    def submit(self, requests: Sequence[Request]) -> None:
        """Gives each request a place as soon as one is free."""
        now = time.monotonic()
        for request in requests:
            finished = max(now, self._free[0]) + self._options.delay
            heapq.heapreplace(self._free, finished)
            self._hand.append((finished, request))

    def collect(self) -> Sequence[Completion]:
        """The answers that are due, at most `concurrency` of them; sleeps until there is one."""
        if not self._hand:
            raise RuntimeError("nothing is in hand; submit requests before collect")
        time.sleep(max(0.0, self._hand[0][0] - time.monotonic()))
        now = time.monotonic()
        done: list[Completion] = []
        while self._hand and self._hand[0][0] <= now and len(done) < self._options.concurrency:
            done.append(self._complete(self._hand.popleft()[1]))
        return done

    def close(self) -> None:
        """Abandons what is in hand."""
        self._hand.clear()

    def _complete(self, request: Request) -> Completion:
        made = self._answer(request)
        if isinstance(made, Completion):
            return replace(made, key=request.key)
        limit = request.sampling.max_tokens
        text, tokens = _cut(made, limit)
        before = begun(request)
        prompt_tokens = sum(len(content.split()) for _, content in request.messages) + len(before.split())
        return Completion(
            request.key,
            before + text,
            Stop.END if text == made else Stop.LENGTH,
            prompt_tokens,
            tokens,
            limit,
            forced=len(request.start.then.split()) if request.start else 0,
            ids=tuple(map(ord, before + text)) if request.ids else None,
        )


def begun(request: Request) -> str:
    """The text with which the model's turn begins, as this engine reads a request's start."""
    start = request.start
    if start is None:
        return ""
    text = "".join(map(chr, start.ids))
    return (text.partition(start.until)[0] if start.until else text) + start.then


def _cut(text: str, limit: int) -> tuple[str, int]:
    """`text` up to the end of its word number `limit`, and its number of words."""
    words = len(text.split())
    if words <= limit:
        return text, words
    rest = text.split(maxsplit=limit)[limit]
    return text[: -len(rest)].rstrip(), limit
