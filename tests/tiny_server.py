"""A small server of the chat completions protocol in a thread, whose faults a test chooses."""

import asyncio
import hashlib
import json
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from aiohttp import web


@dataclass(frozen=True)
class Fault:
    """What the server does instead of answering as it should."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    hang: float = 0.0  # seconds before anything is sent
    drop: bool = False  # close the connection without an answer


Body = dict[str, Any]
Misbehave = Callable[[Body, int], Fault | None]  # a request's body and how often it has come → a fault, or None to answer


def reply(body: Body) -> str:
    """The text that answers a body: a function of the messages and the seed."""
    return hashlib.sha256(json.dumps([body["messages"], body["seed"]]).encode()).hexdigest()


def answer(text: str, finish_reason: str | None = "stop", **extra: Any) -> bytes:
    """The body of an answer with one choice."""
    choice = {"index": 0, "finish_reason": finish_reason, "message": {"role": "assistant", "content": text}}
    return json.dumps({"choices": [choice], **extra}).encode()


class TinyServer:
    """A server on a free port while the `with` block lasts; `bodies` and `headers` hold what came, in order."""

    def __init__(self, misbehave: Misbehave = lambda body, time: None, models: tuple[str, ...] = ("tiny",)) -> None:
        self.bodies: list[Body] = []
        self.headers: list[dict[str, str]] = []
        self._misbehave, self._models = misbehave, models
        self._times: Counter[str] = Counter()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> "TinyServer":
        self._thread.start()
        self.url = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> str:
        app = web.Application()
        app.router.add_get("/v1/models", self._list)
        app.router.add_post("/v1/chat/completions", self._complete)
        app.router.add_post("/v1/completions", self._continue)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, backlog=2048)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        return f"http://{host}:{port}/v1"

    async def _list(self, request: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": name} for name in self._models]})

    async def _continue(self, request: web.Request) -> web.StreamResponse:
        """Answers a prompt of token ids with the ids 20, 21 and 22."""
        body = await request.json()
        self.bodies.append(body)
        choice = {"index": 0, "finish_reason": "length", "text": "whatever", "token_ids": [20, 21, 22]}
        if self._misbehave(body, 1) is not None:
            del choice["token_ids"]
        return web.json_response({"choices": [choice], "usage": {"prompt_tokens": len(body["prompt"]), "completion_tokens": 3}})

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.bodies.append(body)
        self.headers.append(dict(request.headers))
        key = json.dumps([body["messages"], body["seed"]])
        self._times[key] += 1
        fault = self._misbehave(body, self._times[key])
        if fault is None:
            usage = {"prompt_tokens": 7, "completion_tokens": 3}
            return web.Response(body=answer(reply(body), usage=usage), content_type="application/json")
        await asyncio.sleep(fault.hang)
        if fault.drop:
            assert request.transport is not None
            request.transport.abort()
        return web.Response(status=fault.status, body=fault.body, headers=fault.headers)
