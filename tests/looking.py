"""Small real runs to look at (curated, built, evaluated by scripted models), and a server that shows them."""

import http.client
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from random import Random
from urllib.parse import urlencode

from skillfactory.build import BuildConfig, build
from skillfactory.curate import CurateConfig, Generation, Prompting
from skillfactory.curation import curate
from skillfactory.engines.scripted import ScriptedEngine, ScriptedOptions
from skillfactory.evaluate import Answering, EvaluateConfig
from skillfactory.evaluation import evaluate
from skillfactory.flow import Request
from skillfactory.progress import Silent
from skillfactory.view.library import Library
from skillfactory.view.server import Server

SUITE = """
groups:
  - {name: two, kind: in-domain, task: multiplication, level: 2, questions: 12, samples: 3, max_tokens: 100}
  - {name: three, kind: harder, task: multiplication, level: 3, questions: 8, samples: 2, max_tokens: 100}
"""
SCRIPT = "<script>document.title = 'run by a model'</script>"
WORDS = ("Let me SEE", SCRIPT, "100 % sure_", "naïve Straße", "\u202etxet\u2066", 'x" onmouseover="x', "a\x00b", "</p></div>")


def attempt(request: Request) -> str:
    """One attempt at a product, right half the time, or a review that is right three times in four; by the request's seed."""
    random = Random(request.seed)
    text = request.messages[-1][1]
    word = random.choice(WORDS)
    if "<verdict>" in text:
        return f"{word}.\n<verdict>{random.choice(['Correct', 'Incorrect', 'Unsure'])}</verdict>"
    a, b = map(int, re.findall(r"\d+", text)[:2])
    return f"{word}: {random.random()}.\n<answer>{a * b + random.randint(0, 1)}</answer>" if random.random() < 0.8 else word


def response(request: Request, salt: int = 0) -> str:
    """A response of one to three attempts, each reviewed, that ends with the last one's answer, or is cut off before."""
    random = Random(f"{request.seed} {salt}")
    a, b = map(int, re.findall(r"\d+", request.messages[-1][1])[:2])
    parts, answer = ["<think>"], ""
    for _ in range(random.randint(1, 3)):
        answer = str(a * b + random.randint(0, 1))
        said = random.choice(["Correct", "Incorrect"])
        parts.append(f"<sample>\n{random.choice(WORDS)}\n<answer>{answer}</answer>\n</sample>")
        parts.append(f"<reflect>\nI see.\n<verdict>{said}</verdict>\n</reflect>")
    ended = random.random() < 0.8
    return "\n".join(parts) + (f"\n</think>\n\nSo.\n\n<answer>\n{answer}\n</answer>" if ended else "")


def curated(output: Path) -> Path:
    """A run of `curate`: 15 questions, two prompt variants, eight attempts, each with two reflections."""
    config = CurateConfig(
        output=output,
        task="multiplication",
        level="2",
        questions=15,
        samples=4,
        reflections=2,
        prompts=Prompting(variants=("plan_and_execute", "alternatively")),
        generation=Generation(engine="scripted"),
    )
    curate(config, engine=lambda: ScriptedEngine(ScriptedOptions(answer=attempt)))
    return output


def built(run: Path, output: Path) -> Path:
    """Traces of two layouts from a run."""
    build(BuildConfig(inputs=(str(run),), output=output, layout=("*C_full", "twice = I C C -> confirm"), repeats=2))
    return output


def evaluated(output: Path, salt: int = 0) -> Path:
    """An evaluation of a scripted model."""
    suite = output.with_suffix(".yaml")
    suite.write_text(SUITE, "utf-8")
    config = EvaluateConfig("model", output, str(suite), generation=Answering("scripted", {"answer": "looking:response"}))
    evaluate(config, engine=lambda: ScriptedEngine(ScriptedOptions(answer=partial(response, salt=salt))))
    return output


@contextmanager
def shown(cache: Path, *runs: str) -> Iterator[Server]:
    """A server that shows the runs."""
    with Server(Library.open(runs, Silent(), cache), 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class Answer:
    """What a server answered."""

    def __init__(self, found: http.client.HTTPResponse) -> None:
        self.status, self.headers, self.data = found.status, dict(found.getheaders()), found.read()

    @property
    def text(self) -> str:
        return self.data.decode("utf-8")


def asked(server: Server, path: str, method: str = "GET", host: str | None = None, **query: str) -> Answer:
    """What the server answers to a path with a query, which is encoded here."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        connection.putrequest(method, path + (f"?{urlencode(query)}" if query else ""), skip_host=True)
        connection.putheader("Host", f"127.0.0.1:{server.port}" if host is None else host)
        connection.endheaders()
        return Answer(connection.getresponse())
    finally:
        connection.close()
