import json
import random
import socket
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from tiny_server import Fault, TinyServer, answer, reply

from skillfactory.engines import open_engine
from skillfactory.engines.openai import OpenAIEngine
from skillfactory.engines.wire import Again, outcome, pause, waiting
from skillfactory.errors import ConfigError, EngineError
from skillfactory.flow import Completion, Engine, Request, Sampling
from skillfactory.records import Stop

NOW = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)


def request(seed: int = 1, text: str = "?", **sampling: Any) -> Request:
    return Request((("system", "Be brief."), ("user", text)), Sampling(**sampling), seed)


def opened(server: TinyServer, **options: Any) -> Engine:
    return open_engine("openai", {"base_url": server.url, "backoff": 0.01, **options})


def ask(server: TinyServer, *requests: Request, **options: Any) -> list[Completion]:
    """The completions of requests, in the order asked."""
    engine = opened(server, **options)
    engine.submit(requests)
    got: dict[str, Completion] = {}
    while len(got) < len(requests):
        for completion in engine.collect():
            assert completion.key not in got
            got[completion.key] = completion
    engine.close()
    return [got[r.key] for r in requests]


def test_a_request_is_sent_in_full_and_its_answer_comes_back_with_its_counts() -> None:
    asked = request(seed=2**63 + 5, max_tokens=77)
    with TinyServer() as server:
        completion = ask(server, asked, extra_body={"min_p": 0.1})[0]
        body = server.bodies[0]
    assert body == {
        "model": "tiny",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "?"}],
        "temperature": 0.7,
        "top_p": 0.8,
        "max_tokens": 77,
        "seed": 5,
        "top_k": 20,
        "repetition_penalty": 1.1,
        "min_p": 0.1,
    }
    assert completion == Completion(asked.key, reply(body), Stop.END, 7, 3, 77)


def test_thousands_of_requests_are_answered_once_each_with_their_own_text() -> None:
    asked = [request(seed=seed) for seed in range(5000)]
    with TinyServer() as server:
        got = ask(server, *asked, concurrency=512)
        seen = {body["seed"]: reply(body) for body in server.bodies}
        assert len(server.bodies) == 5000
    assert [completion.text for completion in got] == [seen[r.seed] for r in asked]
    assert len({completion.text for completion in got}) == 5000


def test_no_more_requests_are_in_flight_than_the_concurrency_allows() -> None:
    with TinyServer(lambda body, time: Fault(body=answer("x"), hang=0.2)) as server:
        engine = opened(server, concurrency=3)
        engine.submit([request(seed=seed) for seed in range(9)])
        time.sleep(0.1)
        assert len(server.bodies) == 3
        engine.close()


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=500, body=b"out of luck"),
        Fault(status=503),
        Fault(status=429, headers={"Retry-After": "0"}),
        Fault(drop=True),
        Fault(hang=1.0),
        Fault(body=b"<html>"),
        Fault(body=b'{"choices": []}'),
        Fault(body=b"[" * 100_000),
        Fault(body=answer("half a text", "abort")),
    ],
)
def test_a_passing_fault_is_tried_again_until_the_answer_comes(fault: Fault) -> None:
    with TinyServer(lambda body, time: fault if time <= 2 else None) as server:
        completion = ask(server, request(), timeout=0.2)[0]
        assert completion.text == reply(server.bodies[0])
        assert len(server.bodies) == 3


def test_only_the_request_that_failed_is_sent_again() -> None:
    asked = [request(seed=seed) for seed in range(50)]
    with TinyServer(lambda body, time: Fault(status=502) if body["seed"] == 7 and time == 1 else None) as server:
        ask(server, *asked)
        times = [sum(body["seed"] == seed for body in server.bodies) for seed in range(50)]
    assert times == [2 if seed == 7 else 1 for seed in range(50)]


def test_retry_after_is_waited_for_and_the_longest_wait_caps_it() -> None:
    waits = {1: "1", 2: "60"}
    with TinyServer(
        lambda body, time: Fault(status=429, headers={"Retry-After": waits[body["seed"]]}) if time == 1 else None
    ) as server:
        begun = time.monotonic()
        ask(server, request(seed=1))
        assert time.monotonic() - begun >= 1.0
        begun = time.monotonic()
        ask(server, request(seed=2), longest_wait=0.05)
        assert time.monotonic() - begun < 30


def test_a_fault_that_stays_fails_with_its_reason_and_the_number_of_tries() -> None:
    with TinyServer(lambda body, time: Fault(status=500, body=b'{"error": {"message": "the GPU is on fire"}}')) as server:
        completion = ask(server, request(), retries=2)[0]
        assert len(server.bodies) == 3
    assert (completion.stop, completion.text) == (Stop.ERROR, "")
    assert completion.error == "HTTP 500: the GPU is on fire (3 tries)"


def test_a_refused_request_fails_at_once_with_the_servers_message_cut_to_a_line() -> None:
    message = "prompt\ntoo long " * 100
    with TinyServer(lambda body, time: Fault(status=400, body=json.dumps({"error": {"message": message}}).encode())) as server:
        completion = ask(server, request())[0]
        assert len(server.bodies) == 1
    assert completion.stop is Stop.ERROR
    assert completion.error.startswith("the server refused the request: HTTP 400: prompt too long prompt")
    assert len(completion.error) < 500


def test_a_server_that_knows_no_extended_sampling_gets_none_and_the_error_says_how() -> None:
    def picky(body: dict[str, Any], time: int) -> Fault | None:
        return Fault(status=400, body=b'{"detail": "unknown field top_k"}') if "top_k" in body else None

    with TinyServer(picky) as server:
        assert "set extended_sampling to false" in ask(server, request())[0].error
        assert ask(server, request(), extended_sampling=False)[0].stop is Stop.END
        assert "repetition_penalty" not in server.bodies[1]


def test_an_endless_body_is_cut_off() -> None:
    with TinyServer(lambda body, time: Fault(body=b" " * (17 * 2**20) + answer("x"))) as server:
        assert ask(server, request(), retries=0)[0].error == "the server's answer holds no completion (1 tries)"


def test_closing_breaks_off_what_is_in_flight_without_waiting_for_it() -> None:
    with TinyServer(lambda body, time: Fault(hang=60)) as server:
        engine = opened(server)
        engine.submit([request(seed=seed) for seed in range(100)])
        time.sleep(0.1)
        begun = time.monotonic()
        engine.close()
        engine.close()
        assert time.monotonic() - begun < 30
        with pytest.raises(RuntimeError, match="nothing is in hand"):
            engine.collect()


def test_the_engine_works_again_after_it_had_nothing_to_do() -> None:
    with TinyServer() as server:
        engine = opened(server, concurrency=1)
        for seed in range(20):
            engine.submit([request(seed=seed)])
            assert [c.key for c in engine.collect()] == [request(seed=seed).key]
        engine.close()


def test_the_key_comes_from_the_environment_and_never_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINY_KEY", "s3cret-key")
    with TinyServer(lambda body, time: Fault(status=400, body=b"bad key s3cret-key")) as server:
        completion = ask(server, request(), api_key_env="TINY_KEY")[0]
        assert server.headers[0]["Authorization"] == "Bearer s3cret-key"
    assert completion.error.endswith("bad key ***")
    with pytest.raises(ConfigError, match="environment variable 'NO_SUCH_KEY', which is not set"):
        open_engine("openai", {"api_key_env": "NO_SUCH_KEY"})


@pytest.mark.parametrize("key", ["sk-s3cret", "0123456789abcdef"])
def test_a_key_in_the_place_of_its_variable_is_not_shown(key: str) -> None:
    with pytest.raises(ConfigError, match="api_key_env: expected the name of an environment variable") as error:
        open_engine("openai", {"api_key_env": key})
    assert key not in str(error.value)


def test_a_server_that_is_not_there_is_an_error_at_the_start_that_names_the_address() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with pytest.raises(EngineError, match=f"no server answers at {url} .*; start it, or set base_url"):
        open_engine("openai", {"base_url": url})


def test_the_model_must_be_named_where_a_server_has_several() -> None:
    with TinyServer(models=("one", "two")) as server:
        with pytest.raises(EngineError, match="has 2 models; set model to one of: one, two"):
            opened(server)
        ask(server, request(), model="two")
        assert server.bodies[0]["model"] == "two"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base_url": "localhost:8000"}, "base_url must be an address such as http://127.0.0.1:8000/v1, not 'localhost:8000'"),
        ({"concurrency": 0}, "needs concurrency >= 1"),
        ({"timeot": 3}, "unknown key 'timeot'; did you mean 'timeout'"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        open_engine("openai", options)


@pytest.mark.parametrize(
    ("body", "stop", "text", "tokens"),
    [
        (answer("four word text here", "stop"), Stop.END, "four word text here", 5),
        (answer("cut", "length"), Stop.LENGTH, "cut", 64),
        (answer("a", "stop", usage={"completion_tokens": 9}), Stop.END, "a", 9),
        (answer("a", "stop", usage={"completion_tokens": -1}), Stop.END, "a", 1),
        (answer("half \ud800 pair", "stop"), Stop.END, "half ? pair", 3),
        (answer("", "content_filter"), Stop.ERROR, "", 0),
        (b'{"choices": [{"finish_reason": "stop", "message": {"content": null}}]}', Stop.END, "", 0),
    ],
)
def test_an_answer_becomes_a_completion_by_its_finish_reason_and_usage(body: bytes, stop: Stop, text: str, tokens: int) -> None:
    made = outcome(request(max_tokens=64), 200, None, body)
    assert isinstance(made, Completion)
    assert (made.stop, made.text, made.tokens, made.limit) == (stop, text, tokens, 64)


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504, 529])
def test_statuses_that_pass_are_worth_another_try(status: int) -> None:
    assert isinstance(outcome(request(), status, None, b""), Again)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("3", 3.0),
        ("Fri, 20 Nov 2026 12:00:30 GMT", 30.0),
        ("Fri, 20 Nov 2026 11:00:00 GMT", 0.0),
        ("soon", None),
        ("-1", None),
        (None, None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(header: str | None, seconds: float | None) -> None:
    assert waiting(header, NOW) == seconds


def test_waits_double_with_jitter_and_never_exceed_the_longest() -> None:
    dice = random.Random(0)
    for tried in range(1, 200):
        whole = min(0.5 * 2 ** (tried - 1), 60)
        assert whole / 2 <= pause(tried, None, 0.5, 60, dice) <= whole
    assert len({pause(3, None, 0.5, 60, dice) for _ in range(10)}) == 10


def test_the_engine_is_what_its_name_opens() -> None:
    with TinyServer() as server:
        engine = opened(server, concurrency=7)
        assert isinstance(engine, OpenAIEngine)
        assert engine.capacity == 7
        engine.close()
