import time
from pathlib import Path
from typing import Any

import pytest

from skillfactory.engines import ENGINES, engine_class, open_engine
from skillfactory.errors import ConfigError
from skillfactory.flow import Completion, Engine, Request, Sampling
from skillfactory.records import Stop


def echo(request: Request) -> str:
    return f"  {request.messages[-1][1]} {request.seed}\n"


def refuse(request: Request) -> Completion:
    return Completion("", "", Stop.ERROR, 0, 0, request.sampling.max_tokens, "no answer today")


def requests(n: int, text: str = "one two three", max_tokens: int = 100) -> list[Request]:
    return [Request((("system", "be brief"), ("user", text)), Sampling(max_tokens=max_tokens), seed) for seed in range(n)]


def opened(answer: Any = echo, **options: Any) -> Engine:
    return open_engine("scripted", {"answer": answer, **options})


def drain(engine: Engine, n: int) -> list[Completion]:
    got: list[Completion] = []
    while len(got) < n:
        got += engine.collect()
    return got


def test_each_request_comes_back_once_in_order_with_what_the_function_says() -> None:
    engine, asked = opened(concurrency=7), requests(40)
    engine.submit(asked)
    assert drain(engine, 40) == [Completion(r.key, echo(r), Stop.END, 5, 4, 100) for r in asked]
    with pytest.raises(RuntimeError, match="nothing is in hand"):
        engine.collect()


def test_a_text_over_the_token_limit_is_cut_after_its_last_word_that_fits() -> None:
    engine = opened()
    engine.submit(requests(1, max_tokens=3) + requests(1, max_tokens=4))
    cut, whole = drain(engine, 2)
    assert (cut.text, cut.stop, cut.tokens, cut.limit) == ("  one two three", Stop.LENGTH, 3, 3)
    assert (whole.text, whole.stop, whole.tokens) == ("  one two three 0\n", Stop.END, 4)


def test_a_completion_goes_out_as_the_function_made_it_but_with_the_key_of_its_request() -> None:
    engine, asked = opened(answer=f"{__name__}:refuse"), requests(1)
    engine.submit(asked)
    assert drain(engine, 1) == [Completion(asked[0].key, "", Stop.ERROR, 0, 0, 100, "no answer today")]


def test_requests_take_their_delay_and_so_many_run_at_once() -> None:
    engine = opened(delay=0.2, concurrency=10)
    begun = time.monotonic()
    engine.submit(requests(20))
    assert len(engine.collect()) <= 10
    assert time.monotonic() - begun >= 0.2
    drain(engine, 10)
    assert 0.4 <= time.monotonic() - begun < 0.8


def test_closing_abandons_what_is_in_hand() -> None:
    engine = opened(delay=60)
    engine.submit(requests(3))
    engine.close()
    with pytest.raises(RuntimeError, match="nothing is in hand"):
        engine.collect()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("scriptd", {}, "unknown engine 'scriptd'; did you mean 'scripted'"),
        ("scripted", {"delya": 1}, "unknown key 'delya'; did you mean 'delay'"),
        ("scripted", {}, "answer is missing"),
        ("scripted", {"answer": echo, "delay": -1}, "needs delay >= 0 and concurrency >= 1"),
        ("scripted", {"answer": 7}, "needs a function to answer, and 7 is none"),
        ("scripted", {"answer": "echo"}, "'echo' is not of the form module:object"),
        ("scripted", {"answer": f"{__name__}:ehco"}, f"module '{__name__}' has no 'ehco'"),
        ("scripted", {"answer": "no_such_module:f"}, "'no_such_module:f' can't be imported: No module named"),
        ("scripted", {"answer": "this.is:f"}, "can't be imported"),
        ("scripted", {"answer": ".relative:f"}, "can't be imported"),
        ("skillfactory.flow:Request", {}, "is no engine: it has no dataclass 'Options'"),
    ],
)
def test_what_cannot_be_opened_is_named(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        open_engine(name, options)


def test_every_engine_is_found_by_its_name_and_by_its_path_without_its_library() -> None:
    for name, path in ENGINES.items():
        assert engine_class(name) is engine_class(path)


def test_every_option_of_every_engine_has_a_help_and_there_are_not_too_many() -> None:
    for name in ENGINES:
        fields = engine_class(name).Options.__dataclass_fields__.values()
        assert all(field.metadata["help"] for field in fields)
        assert len(fields) <= 15


def test_an_import_that_fails_inside_a_module_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "half_an_engine.py").write_text("from json import nothing_of_the_kind\n", "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match="'half_an_engine:f' can't be imported: cannot import name 'nothing_of_the_kind'"):
        open_engine("scripted", {"answer": "half_an_engine:f"})
