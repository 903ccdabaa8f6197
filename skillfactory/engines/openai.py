"""The engine `openai`: any server of the chat completions protocol, with many requests in flight."""

import asyncio
import json
import os
import queue
import random
import re
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from skillfactory.embedded import located
from skillfactory.engines.chat import Chat, Opening
from skillfactory.engines.wire import Again, outcome, pause, payload
from skillfactory.errors import ConfigError, EngineError, require
from skillfactory.flow import Completion, Request, Start, failed
from skillfactory.records import Stop

_BODY_LIMIT = 16 * 2**20  # bytes; the longest texts of today's models are a hundredth of it
_GREETING = 15.0  # seconds for the server's list of models


@dataclass(frozen=True)
class OpenAIOptions:
    """Which server and model, how many requests at once, and how patient to be."""

    base_url: str = field(default="http://127.0.0.1:8000/v1", metadata={"help": "where the protocol's paths begin"})
    model: str | None = field(default=None, metadata={"help": "the model's name there", "shown": "the only one it serves"})
    api_key_env: str | None = field(default=None, metadata={"help": "the environment variable that holds the key"})
    concurrency: int = field(default=256, metadata={"help": "requests in flight"})
    timeout: float = field(default=600.0, metadata={"help": "seconds for one try of one request"})
    retries: int = field(default=8, metadata={"help": "further tries of a request after the first"})
    backoff: float = field(default=0.5, metadata={"help": "seconds before the second try; doubles with each further one"})
    longest_wait: float = field(default=60.0, metadata={"help": "the most seconds between two tries, even if asked for more"})
    extended_sampling: bool = field(
        default=True, metadata={"help": "send top_k and repetition_penalty, which not every server knows"}
    )
    limit_field: str = field(
        default="max_tokens", metadata={"help": "the field of the token limit, e.g. max_completion_tokens"}
    )
    tokenizer: str | None = field(
        default=None, metadata={"help": "the model's tokenizer (a folder or Hub id), to continue texts by their token ids"}
    )
    extra_body: Mapping[str, Any] = field(default_factory=dict, metadata={"help": "further fields of every request's body"})

    def __post_init__(self) -> None:
        parts = urlsplit(self.base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"base_url must be an address such as http://127.0.0.1:8000/v1, not '{self.base_url}'")
        if self.concurrency < 1 or self.timeout <= 0 or self.retries < 0 or self.backoff < 0 or self.longest_wait < 0:
            raise ConfigError(
                "the openai engine needs concurrency >= 1, timeout > 0, and retries, backoff and longest_wait >= 0"
            )
        if self.api_key_env is not None and not os.environ.get(self.api_key_env):
            if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", self.api_key_env):  # the key itself, perhaps
                raise ConfigError(
                    "api_key_env: expected the name of an environment variable, such as OPENAI_API_KEY, that is set; "
                    "what came is none (and isn't shown, as it may be the key)"
                )
            raise ConfigError(f"api_key_env names the environment variable '{self.api_key_env}', which is not set")


class OpenAIEngine:
    """An engine in front of a server. Each request is a call of its own, so a resumed run asks for exactly what is missing.

    An event loop in a thread of its own does all the talking. A text that has come is never asked for again.
    """

    Options = OpenAIOptions

    def __init__(self, options: OpenAIOptions) -> None:
        require("aiohttp", "openai")
        self._options = options
        self._key = os.environ.get(options.api_key_env, "") if options.api_key_env else ""
        self._model = options.model or ""
        self._chat = None if options.tokenizer is None else _chat(options.tokenizer)
        self._dice = random.Random()  # spreads waiting times; no result depends on it
        self._queue: deque[Request] = deque()
        self._done: queue.SimpleQueue[Completion | BaseException] = queue.SimpleQueue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._workers = 0
        self._in_hand = 0
        self._session: Any = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="openai engine", daemon=True)
        self._thread.start()
        try:
            asyncio.run_coroutine_threadsafe(self._open(), self._loop).result()
        except EngineError:
            self.close()
            raise

    @property
    def capacity(self) -> int:
        """As many as it keeps in flight."""
        return self._options.concurrency

    def submit(self, requests: Sequence[Request]) -> None:
        """Puts requests in the queue to the server."""
        self._in_hand += len(requests)
        self._loop.call_soon_threadsafe(self._enqueue, tuple(requests))

    def collect(self) -> Sequence[Completion]:
        """What has come since the last call; waits until there is something."""
        if not self._in_hand:
            raise RuntimeError("nothing is in hand; submit requests before collect")
        came = [self._done.get()]
        while not self._done.empty():
            came.append(self._done.get())
        for item in came:
            if isinstance(item, BaseException):
                raise item
        self._in_hand -= len(came)
        return [item for item in came if isinstance(item, Completion)]

    def unwritable(self, text: str) -> str:
        """Why the model's turn can't go on with `text`; "" if it can (flow.Writer), or if there is no tokenizer to ask."""
        return "" if self._chat is None else self._chat.opening(Start(then=text)).error

    def close(self) -> None:
        """Breaks off what is in flight and ends the thread."""
        if self._loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(self._shut(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._in_hand = 0

    async def _open(self) -> None:
        import aiohttp

        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=self._options.timeout),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        await self._greet()

    async def _shut(self) -> None:
        self._queue.clear()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._session.close()

    async def _greet(self) -> None:
        """Makes sure that a server listens, and finds the model's name if none was given; EngineError otherwise."""
        import aiohttp

        url = self._options.base_url
        try:
            timeout = aiohttp.ClientTimeout(total=min(_GREETING, self._options.timeout))
            async with self._session.get(f"{url.rstrip('/')}/models", timeout=timeout) as response:
                status, body = response.status, await _read(response)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise EngineError(f"no server answers at {url} ({_named(error)}); start it, or set base_url") from error
        if status in (401, 403):
            raise EngineError(
                f"the server at {url} wants another key (HTTP {status}); set api_key_env to the variable that holds it"
            )
        if not self._model:
            self._model = _only_model(url, body)

    def _enqueue(self, requests: Sequence[Request]) -> None:
        """Runs in the loop: workers take requests until there are none, so there are never more than are needed."""
        self._queue.extend(requests)
        for _ in range(min(len(self._queue), self._options.concurrency - self._workers)):
            self._workers += 1
            task = self._loop.create_task(self._work())
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    async def _work(self) -> None:
        while self._queue:
            self._done.put(await self._complete(self._queue.popleft()))
        self._workers -= 1  # here, not in `_ended`: a request that comes in between must find a worker or start one

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._done.put(error)

    async def _complete(self, request: Request) -> Completion:
        """The completion of a request, after as many tries as it takes and the options allow."""
        options = self._options
        opening, prompt = self._by_ids(request)
        if opening.error:
            return failed(request, opening.error)
        extra = options.extra_body
        if prompt is not None and self._chat is not None and options.extended_sampling:
            extra = {"stop_token_ids": self._chat.ends(None), **extra}  # the server closes no turn of a bare prompt
        body = payload(request, self._model, options.limit_field, options.extended_sampling, extra, prompt)
        tried = 0
        while True:
            result = await self._try(request, body, plain=prompt is not None)
            tried += 1
            if isinstance(result, Completion):
                result = result if prompt is None else self._whole(request, opening, result)
                return replace(result, error=self._without_key(result.error)) if result.error else result
            if tried > options.retries:
                return failed(request, self._without_key(f"{result.reason} ({tried} tries)"))
            await asyncio.sleep(pause(tried, result.after, options.backoff, options.longest_wait, self._dice))

    def _by_ids(self, request: Request) -> tuple[Opening, tuple[int, ...] | None]:
        """The start of the model's turn and the whole prompt as ids; None for a request that is put as messages."""
        if request.start is None and not request.ids:
            return Opening(), None
        if self._chat is None:
            raise ConfigError(
                "continuing a text by its token ids over a server needs the model's tokenizer here: give "
                "--engine-option tokenizer=FOLDER-OR-HUB-ID, and a server that takes and gives token ids, such as vLLM's"
            )
        opening = self._chat.opening(request.start)
        return opening, self._chat.encode(request.messages) + opening.ids

    def _whole(self, request: Request, opening: Opening, made: Completion) -> Completion:
        """A completion of new tokens alone as one of the whole turn."""
        if made.stop is Stop.ERROR:
            return made
        if made.ids is None or self._chat is None:
            raise ConfigError(
                f"the server at {self._options.base_url} gives no token ids (return_token_ids), so texts can't be continued "
                "with it; vLLM's does"
            )
        ids = (*opening.ids, *made.ids)
        return replace(made, text=self._chat.text(ids), forced=opening.forced, ids=ids if request.ids else None)

    async def _try(self, request: Request, body: bytes, plain: bool) -> Completion | Again:
        import aiohttp

        path = "completions" if plain else "chat/completions"
        try:
            async with self._session.post(f"{self._options.base_url.rstrip('/')}/{path}", data=body) as response:
                answer = await _read(response)
                return outcome(request, response.status, response.headers.get("Retry-After"), answer, plain)
        except TimeoutError:
            return Again(f"no answer within {self._options.timeout:g} s")
        except aiohttp.ClientError as error:
            return Again(f"the connection failed: {_named(error)}")

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text


def _chat(tokenizer: str) -> Chat:
    """The tokenizer of the server's model."""
    require("transformers", "hf")
    from transformers import AutoTokenizer

    try:
        return Chat(AutoTokenizer.from_pretrained(located(tokenizer)))
    except (OSError, ValueError) as error:
        raise ConfigError(f"tokenizer: can't load the tokenizer '{tokenizer}': {error}") from error


async def _read(response: Any) -> bytes:
    """A response's body; one without end is cut off, and then is no JSON any more."""
    parts, size = [], 0
    async for part in response.content.iter_any():
        parts.append(part)
        size += len(part)
        if size > _BODY_LIMIT:
            response.close()
            break
    return b"".join(parts)


def _named(error: Exception) -> str:
    """An exception's message with its class, on one line and not too long."""
    return f"{type(error).__name__}: {error}"[:300]


def _only_model(url: str, body: bytes) -> str:
    """The name of the one model that a server lists."""
    try:
        names = [str(entry["id"]) for entry in json.loads(body)["data"]]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise EngineError(f"the server at {url} does not list its models; set model") from error
    if len(names) != 1:
        raise EngineError(f"the server at {url} has {len(names)} models; set model to one of: {', '.join(names)[:300]}")
    return names[0]
