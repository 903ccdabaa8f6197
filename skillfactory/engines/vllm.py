"""The engine `vllm`: vLLM in this process (its model workers are processes of their own), fed continuously."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from skillfactory.embedded import located
from skillfactory.engines.chat import Chat, Opening
from skillfactory.errors import ConfigError, EngineError, require, unknown
from skillfactory.flow import Completion, Request, Start, failed
from skillfactory.records import Stop

_STOPS = {"stop": Stop.END, "length": Stop.LENGTH}


@dataclass(frozen=True)
class VllmOptions:
    """Which model, and how vLLM is to hold it."""

    model: str = field(metadata={"help": "a folder, or the id of a model on the Hub"})
    revision: str | None = field(default=None, metadata={"help": "branch, tag or commit on the Hub"})
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = field(
        default="auto", metadata={"help": "auto is the checkpoint's"}
    )
    tensor_parallel_size: int = field(default=1, metadata={"help": "GPUs that share the model"})
    gpu_memory_utilization: float | None = field(default=None, metadata={"help": "share of a GPU's memory", "shown": "vLLM's"})
    max_model_len: int | None = field(default=None, metadata={"help": "tokens of prompt and text", "shown": "the model's"})
    max_num_seqs: int = field(default=256, metadata={"help": "requests that are generated together"})
    chat_template: str | None = field(
        default=None, metadata={"help": "a Jinja file to use in place of the tokenizer's template"}
    )
    trust_remote_code: bool = field(default=False, metadata={"help": "run the Python code that comes with the model"})
    engine_args: Mapping[str, Any] = field(default_factory=dict, metadata={"help": "further arguments of vLLM's EngineArgs"})

    def __post_init__(self) -> None:
        if self.max_num_seqs < 1 or self.tensor_parallel_size < 1:
            raise ConfigError("the vllm engine needs max_num_seqs and tensor_parallel_size of at least 1")


class VllmEngine:
    """An engine on vLLM: whatever is in hand is generated together, and texts come as they finish.

    Prefix caching is on: the samples of one prompt, and the reflections on one attempt, share the work on their prompt. The
    request's own seed decides its text as far as vLLM's numerics, which depend on the batch, let it.
    """

    Options = VllmOptions

    def __init__(self, options: VllmOptions) -> None:
        # Set before vLLM is first imported; a user's own settings win.
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        require("vllm", "vllm")
        self._options = options
        self._engine = _started(options)
        self._room: int = self._engine.model_config.max_model_len
        self._chat = Chat(self._engine.get_tokenizer(), options.chat_template)
        self._ends = self._chat.ends(None)  # vLLM itself adds those of the model's generation config
        self._hand: dict[str, tuple[Request, Opening]] = {}  # by vLLM's request id
        self._refused: list[Completion] = []
        self._submitted = 0

    @property
    def capacity(self) -> int:
        """As many as are generated together."""
        return self._options.max_num_seqs

    def submit(self, requests: Sequence[Request]) -> None:
        """Hands requests to vLLM's scheduler; one that leaves no room for an answer is refused."""
        for request in requests:
            opening = self._chat.opening(request.start)
            prompt = self._chat.encode(request.messages) + opening.ids
            refused = self._chat.refused(request, opening, len(prompt), self._room)
            if refused is not None:
                self._refused.append(refused)
                continue
            self._submitted += 1
            name = str(self._submitted)
            self._hand[name] = request, opening
            self._engine.add_request(name, self._rendered(prompt), self._params(request))

    def collect(self) -> Sequence[Completion]:
        """The texts that have finished; steps the engine until there is one."""
        if self._refused:
            refused, self._refused = self._refused, []
            return refused
        if not self._hand:
            raise RuntimeError("nothing is in hand; submit requests before collect")
        from vllm.v1.engine.exceptions import EngineDeadError

        while True:
            try:
                finished = [output for output in self._engine.step() if output.finished]
            except EngineDeadError as error:
                raise EngineError("vLLM's engine died; its own messages above say why") from error
            if finished:
                return [self._completion(*self._hand.pop(output.request_id), output) for output in finished]

    def unwritable(self, text: str) -> str:
        """Why the model's turn can't go on with `text`; "" if it can (flow.Writer)."""
        return self._chat.opening(Start(then=text)).error

    def close(self) -> None:
        """Ends vLLM's processes; what is in hand is abandoned."""
        self._hand.clear()
        self._engine.engine_core.shutdown()

    def _completion(self, request: Request, opening: Opening, output: Any) -> Completion:
        """The completion of a finished request; vLLM counts the end token among the tokens and does not show it."""
        made = output.outputs[0]
        if made.finish_reason not in _STOPS:
            return failed(request, f"vLLM broke the request off ({made.finish_reason})")
        ids = (*opening.ids, *made.token_ids)
        text = made.text if request.start is None else self._chat.text(ids)
        counts = len(output.prompt_token_ids), len(made.token_ids), request.sampling.max_tokens
        ended = Completion(request.key, text, _STOPS[made.finish_reason], *counts).within(self._room - counts[0])
        return replace(ended, forced=opening.forced, ids=ids if request.ids else None)

    def _rendered(self, prompt: Sequence[int]) -> Any:
        """The prompt as vLLM wants it: newer versions have a renderer and are about to take nothing else."""
        raw = {"prompt_token_ids": list(prompt)}
        renderer = getattr(self._engine, "renderer", None)
        return raw if renderer is None else renderer.render_cmpl([raw])[0]

    def _params(self, request: Request) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        sampling = request.sampling
        return SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            repetition_penalty=sampling.repetition_penalty,
            max_tokens=sampling.max_tokens,
            seed=request.seed & (2**63 - 1),  # torch takes 63 bits, and -1 would mean none
            stop_token_ids=self._ends,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )


def _started(options: VllmOptions) -> Any:
    """vLLM's engine with the model loaded."""
    from vllm import EngineArgs, LLMEngine
    from vllm.platforms import current_platform

    own = {name: value for name, value in vars(options).items() if name not in ("chat_template", "engine_args")}
    arguments = {name: value for name, value in own.items() if value is not None}
    arguments["model"] = located(options.model)
    arguments |= {"enable_prefix_caching": True, "disable_log_stats": True}
    if current_platform.is_cpu():
        arguments["enable_chunked_prefill"] = False  # on CPU, a request with a seed kills an engine that prefills in chunks
    known = [entry.name for entry in fields(EngineArgs)]
    for name in options.engine_args:
        if name not in known:
            raise unknown("key of engine_args", name, known)
    try:
        return LLMEngine.from_engine_args(EngineArgs(**arguments | dict(options.engine_args)))
    except (ValueError, RuntimeError, OSError) as error:
        raise EngineError(f"vLLM can't start with the model '{options.model}': {error}") from error
