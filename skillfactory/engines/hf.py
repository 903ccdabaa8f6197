"""The engine `transformers`: any causal language model in this process, on CPU or GPU.

Its text for a request depends on the request (its seed included), the options and the machine, and on nothing else: not on
the neighbours in its batch and not on what was asked before. Three things make it so:

- the chance at each step comes from the request's seed (`nucleus`);
- a batch holds prompts that are padded to the same length, which is a function of the prompt alone (`padded_length`);
- the number of rows is one for which the kernels round alike (`TransformersEngine._rows`): in small batches they don't.
"""

import contextlib
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from skillfactory.embedded import located
from skillfactory.engines.chat import Chat, Opening
from skillfactory.errors import ConfigError, EngineError, require
from skillfactory.flow import Completion, Request, Sampling, Start
from skillfactory.hardware import threads_for
from skillfactory.records import Stop

if TYPE_CHECKING:
    from skillfactory.engines.batch import Batch

# Rows. Measured with one thread and float32: a row has the same bits in any batch of 16 to 256, and others in smaller ones.
_SMALLEST = 16


@dataclass(frozen=True)
class TransformersOptions:
    """Which model, where, and how many requests at once."""

    model: str = field(metadata={"help": "a folder, the id of a model on the Hub, or mini, the embedded one"})
    revision: str | None = field(default=None, metadata={"help": "branch, tag or commit on the Hub"})
    device: str = field(default="auto", metadata={"help": "auto (a GPU if there is one), cpu, cuda, cuda:1, ..."})
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = field(
        default="auto", metadata={"help": "auto is the checkpoint's"}
    )
    attention: str | None = field(
        default=None, metadata={"help": "attention implementation, e.g. sdpa, eager, flash_attention_2"}
    )
    batch_size: int = field(default=32, metadata={"help": "rows generated together"})
    exact: bool = field(
        default=True, metadata={"help": "pad the batches with idle rows, so that no text depends on its neighbours"}
    )
    chat_template: str | None = field(
        default=None, metadata={"help": "a Jinja file to use in place of the tokenizer's template"}
    )
    threads: int | None = field(
        default=None, metadata={"help": "torch threads", "shown": "1 for a small model on few cores, else torch's own"}
    )
    trust_remote_code: bool = field(default=False, metadata={"help": "run the Python code that comes with the model"})

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1, not {self.batch_size}")
        if self.threads is not None and self.threads < 1:
            raise ConfigError(f"threads must be at least 1, not {self.threads}")


@dataclass(frozen=True, slots=True)
class _Row:
    """A request with its prompt, the start of the turn included."""

    request: Request
    prompt: tuple[int, ...]
    opening: Opening


class TransformersEngine:
    """An engine that generates batches of prompts of like length, one after the other, and gives each text as it has ended."""

    Options = TransformersOptions

    def __init__(self, options: TransformersOptions) -> None:
        torch = require("torch", "hf")
        require("transformers", "hf")
        self._options = options
        from skillfactory.engines.batch import Network

        model, self._tokenizer = _loaded(options)
        threads = options.threads or (threads_for(model.num_parameters()) if model.device.type == "cpu" else None)
        if threads is not None:
            torch.set_num_threads(threads)
        self._chat = Chat(self._tokenizer, options.chat_template)
        self._ends = self._chat.ends(model.generation_config.eos_token_id)
        pad = next(i for i in (self._tokenizer.pad_token_id, *self._ends, 0) if i is not None)
        self._network: Network | None = Network(model, pad, self._ends, self._rows)
        self._context: int | None = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        self._batch: tuple[Batch, list[_Row]] | None = None  # the one under way
        self._groups: dict[tuple[int, Sampling], deque[_Row]] = {}  # (padded length, sampling but its limit) → rows in hand
        self._refused: list[Completion] = []

    @property
    def capacity(self) -> int:
        """A few batches, so that full ones of like length can be made."""
        return 4 * self._options.batch_size

    def submit(self, requests: Sequence[Request]) -> None:
        """Sorts requests by the length of their prompts; one that leaves no room for an answer is refused."""
        for request in requests:
            opening = self._chat.opening(request.start)
            prompt = self._chat.encode(request.messages) + opening.ids
            refused = self._chat.refused(request, opening, len(prompt), self._context or 2**62)
            if refused is not None:
                self._refused.append(refused)
                continue
            group = (padded_length(len(prompt), self._context), replace(request.sampling, max_tokens=0))
            self._groups.setdefault(group, deque()).append(_Row(request, prompt, opening))

    def collect(self) -> Sequence[Completion]:
        """The texts that ended in a stretch of the batch under way; a new batch is begun when the last one is over.

        It is made of the group with the most rows in hand (the oldest one of those that can fill a batch).
        """
        import torch

        if self._refused:
            refused, self._refused = self._refused, []
            return refused
        ended: list[Completion] = []
        while not ended:
            batch, rows = self._batch or self._begun()
            try:
                ended = [self._completion(rows[n], tokens) for n, tokens in batch.stretch()]
            except torch.OutOfMemoryError as error:
                raise EngineError(f"out of memory with a batch of {len(rows)}; lower batch_size or max_tokens") from error
            self._batch = None if batch.over else (batch, rows)
        return ended

    def unwritable(self, text: str) -> str:
        """Why the model's turn can't go on with `text`; "" if it can (flow.Writer)."""
        return self._chat.opening(Start(then=text)).error

    def close(self) -> None:
        """Lets go of the model and of what is in hand."""
        self._groups.clear()
        self._network = self._batch = None

    def _begun(self) -> "tuple[Batch, list[_Row]]":
        """A new batch of what is in hand."""
        from skillfactory.engines.batch import Batch, Line

        if not self._groups or self._network is None:
            raise RuntimeError("nothing is in hand; submit requests before collect")
        size = self._options.batch_size
        group = max(self._groups, key=lambda name: min(len(self._groups[name]), size))
        waiting = self._groups[group]
        rows = [waiting.popleft() for _ in range(min(size, len(waiting)))]
        if not waiting:
            del self._groups[group]
        length, sampling = group
        room = max(row.request.sampling.max_tokens for row in rows) if self._context is None else self._context - length
        limits = [min(row.request.sampling.max_tokens, room) for row in rows]
        lines = [Line(row.prompt, row.request.seed, limit) for row, limit in zip(rows, limits, strict=True)]
        return Batch(self._network, lines, length, sampling, max(limits)), rows

    def _rows(self, n: int) -> int:
        """How many rows `n` texts are generated with: so many that a row's numbers are those in any other batch.

        On CPU with one thread and float32 that is any number from 16 on. Otherwise kernels choose by shape in ways that
        can't be known here, so every batch gets the same number.
        """
        import torch

        if not self._options.exact or self._network is None:
            return n
        model, size = self._network.model, self._options.batch_size
        predictable = model.device.type == "cpu" and model.dtype == torch.float32 and torch.get_num_threads() == 1
        return row_count(n, size) if predictable else size

    def _completion(self, row: _Row, tokens: list[int]) -> Completion:
        """A row's completion. The end token counts as a token and is not shown."""
        request, opening = row.request, row.opening
        ids = (*opening.ids, *tokens)
        stop = Stop.END if tokens and tokens[-1] in self._ends else Stop.LENGTH
        counts = len(row.prompt), len(tokens), request.sampling.max_tokens
        made = Completion(
            request.key,
            self._chat.text(ids),
            stop,
            *counts,
            forced=opening.forced,
            ids=ids if request.ids else None,
        )
        return made if self._context is None else made.within(self._context - padded_length(len(row.prompt), self._context))


def row_count(n: int, batch_size: int) -> int:
    """The next power of two from `n` on, at least 16 and at most the batch size."""
    return min(batch_size, max(_SMALLEST, 1 << (n - 1).bit_length()))


def padded_length(tokens: int, context: int | None) -> int:
    """The length to which a prompt is padded: the next multiple of 32, or of an eighth to a quarter of it if it is longer.

    Near the end of the context the steps are smaller, so that padding takes at most an eighth of the room for the answer.
    """
    step = max(32, 1 << max(tokens.bit_length() - 3, 0))
    if context is not None:
        step = min(step, 1 << max(((context - tokens) // 8).bit_length() - 1, 0))
    return -(-tokens // step) * step


def _loaded(options: TransformersOptions) -> tuple[Any, Any]:
    """The model, on its device, and its tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    device = options.device if options.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    source = {"revision": options.revision, "trust_remote_code": options.trust_remote_code}
    dtype = options.dtype if options.dtype == "auto" else getattr(torch, options.dtype)
    attention = {} if options.attention is None else {"attn_implementation": options.attention}
    with _quiet():
        try:
            tokenizer = AutoTokenizer.from_pretrained(located(options.model), **source)
            model = AutoModelForCausalLM.from_pretrained(located(options.model), dtype=dtype, **attention, **source)
            model = model.to(device).eval()
        except (OSError, ValueError, ImportError, RuntimeError) as error:
            raise EngineError(f"the model '{options.model}' can't be loaded: {error}") from error
    # What a model's authors prefer (a temperature, a penalty) must not mix with what a request asks for.
    model.generation_config = GenerationConfig(eos_token_id=model.generation_config.eos_token_id)
    return model, tokenizer


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences the progress bars and notes of loading a model."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
