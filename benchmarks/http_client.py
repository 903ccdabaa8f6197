"""The speed of the engine `openai`: requests a second against a trivial server, 512 in flight, and the client's CPU time.

    python benchmarks/http_client.py [--requests 20000] [--concurrency 512]

The server is a process of its own that answers every request with the same short text, so what is measured is the client.
The bar: 2,000 requests a second on one core.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import sys
import time
from multiprocessing.connection import Connection

from skillfactory.engines import open_engine
from skillfactory.flow import Message, Request, Sampling

BAR = 2000  # requests a second

_TEXT = "So 3 * 4 = 12, and 12 - 2 = 10. <answer>3 * 4 - 2</answer> "
_ANSWER = {
    "id": "x",
    "object": "chat.completion",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": _TEXT * 10}}],
    "usage": {"prompt_tokens": 120, "completion_tokens": 300, "total_tokens": 420},
}


class _Server(asyncio.Protocol):
    """Answers every HTTP request of a connection with the same body, as cheaply as can be."""

    body = json.dumps(_ANSWER).encode()
    reply = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport, self.received = transport, b""

    def data_received(self, data: bytes) -> None:
        self.received += data
        while b"\r\n\r\n" in self.received:
            head, _, rest = self.received.partition(b"\r\n\r\n")
            length = next((int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
            if len(rest) < length:
                return
            self.received = rest[length:]
            assert isinstance(self.transport, asyncio.WriteTransport)
            self.transport.write(self.reply)


def serve(port: Connection) -> None:
    """Serves on a free port of this machine, which it sends, until it is killed."""

    async def forever() -> None:
        server = await asyncio.get_running_loop().create_server(_Server, "127.0.0.1", 0, backlog=4096)
        port.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(forever())


def measure(url: str, requests: int, concurrency: int) -> tuple[float, float]:
    """Seconds on the clock and seconds of CPU for so many requests, each answered."""
    engine = open_engine("openai", {"base_url": url, "model": "trivial", "concurrency": concurrency})
    messages: tuple[Message, ...] = (("user", "Using the numbers 2, 3, 4, make 10. " * 12),)
    asked = [Request(messages, Sampling(), seed) for seed in range(requests)]
    wall, cpu = time.perf_counter(), time.process_time()
    engine.submit(asked)
    waiting = {request.key for request in asked}
    while waiting:
        for completion in engine.collect():
            waiting.remove(completion.key)
    took = time.perf_counter() - wall, time.process_time() - cpu
    engine.close()
    return took


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--concurrency", type=int, default=512)
    arguments = parser.parse_args()
    receive, send = multiprocessing.Pipe(duplex=False)
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(send,), daemon=True)
    server.start()
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1 and server.pid:
        os.sched_setaffinity(server.pid, cores[1:])
        os.sched_setaffinity(0, cores[:1])
    url = f"http://127.0.0.1:{receive.recv()}/v1"
    measure(url, 1000, arguments.concurrency)
    wall, cpu = measure(url, arguments.requests, arguments.concurrency)
    server.kill()
    rate = arguments.requests / wall
    print(f"{arguments.requests} requests, {arguments.concurrency} in flight, client on one core: {rate:,.0f} requests/s")
    alone = arguments.requests / cpu
    print(f"client CPU {1e3 * cpu / arguments.requests:.3f} ms a request ({alone:,.0f}/s if it had the core alone)")
    print(f"bar {BAR:,}: {'met' if rate >= BAR else 'MISSED'}")
    return 0 if rate >= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
