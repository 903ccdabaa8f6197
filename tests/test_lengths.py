"""The length limit: tokens are the tokenizer's own, nothing is cut, and long parts make room for shorter ones."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from rawdata import raw_rows, write
from tiny_model import save_tiny_model

from skillfactory.build import BuildConfig, build
from skillfactory.build.lengths import TokenCounter
from skillfactory.errors import ConfigError, InputError
from skillfactory.markup import final_answer, parse


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_model(tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    rows = raw_rows(12)
    for k, row in enumerate(rows):
        text = row["model_responses__mutated_prompts"][0]
        row["model_responses__mutated_prompts"] = ["padding " * (k * 7 % 60) + text]
    return str(write(rows, tmp_path_factory.mktemp("raw") / "raw.parquet"))


def test_the_whole_chat_is_counted_with_the_template(tokenizer: str) -> None:
    counter = TokenCounter(tokenizer)
    # one token a byte; the template adds two special tokens, the role and two line breaks a turn
    expected = sum(len(role) + len(text) + 4 for role, text in (("user", "question"), ("assistant", "response")))
    assert counter.count("question", "response") == expected


def test_every_trace_is_within_the_limit_and_whole_and_the_rest_is_counted(tokenizer: str, source: str, tmp_path: Path) -> None:
    def run(output: str, max_tokens: int | None) -> tuple[dict[str, int], list[dict[str, Any]]]:
        config = BuildConfig(
            inputs=(source,), output=tmp_path / output, layout=("*C_full",), tokenizer=tokenizer, max_tokens=max_tokens
        )
        summary = build(config)
        assert summary.funnels[1].requested == 60
        return dict(summary.funnels[1].dropped), pq.read_table(tmp_path / output / "traces").to_pylist()

    dropped, every = run("all", None)
    assert dropped == {}
    tokens = sorted(row["tokens"] for row in every)
    limit = tokens[len(tokens) // 4]
    dropped, some = run("some", limit)
    assert set(dropped) == {"over_max_tokens"}
    assert 15 < len(some) < 60  # three in four were too long; refilling with shorter parts has saved some of those
    counter = TokenCounter(tokenizer)
    before = {row["trace_id"]: row for row in every}
    refilled = 0
    for row in some:
        user, assistant = row["conversations"]
        assert counter.count(user["content"], assistant["content"]) == row["tokens"] <= limit
        assert parse(assistant["content"]).well_formed
        old = before[row["trace_id"]]
        pattern = [s["right"] for s in row["segments"] if s["kind"] == "attempt"]
        assert pattern[-1]
        assert len(pattern) == len(old["attempt_ids"])
        refilled += row["attempt_ids"] != old["attempt_ids"]
    assert refilled > 0
    used = [attempt for row in some for attempt in row["attempt_ids"]]
    assert len(used) == len(set(used))


def test_a_limit_that_nothing_meets_drops_all_with_the_reason(tokenizer: str, source: str, tmp_path: Path) -> None:
    config = BuildConfig(inputs=(source,), output=tmp_path / "out", layout=("0C",), tokenizer=tokenizer, max_tokens=10)
    summary = build(config)
    assert summary.funnels[1].dropped == {"over_max_tokens": 12}
    drops = pq.read_table(tmp_path / "out" / "drops").to_pylist()
    assert all(drop["detail"].endswith(" tokens") for drop in drops)


def test_a_tokenizer_that_can_not_be_loaded_is_named(source: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"tokenizer '.*nowhere' can't be loaded"):
        TokenCounter(str(tmp_path / "nowhere"))


def test_a_template_that_drops_the_thinking_is_refused(tokenizer: str, tmp_path: Path) -> None:
    for path in Path(tokenizer).iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    template = (tmp_path / "chat_template.jinja").read_text()
    (tmp_path / "chat_template.jinja").write_text(template.replace("message.content", "message.content.split('</think>')[-1]"))
    counter = TokenCounter(str(tmp_path))
    assert counter.count("question", "response") > 0
    with pytest.raises(ConfigError, match="drops a part of the assistant turn"):
        counter.count("question", "<think>\nhm\n</think>\n\n<answer>\n1\n</answer>")


def test_what_makes_room_in_a_trace_of_skills_has_their_blocks_too(tokenizer: str, tmp_path: Path) -> None:
    rows = raw_rows(12, samples=16)
    for k, row in enumerate(rows):
        text = row["model_responses__mutated_prompts"][0]
        plan = f"Plan: {'pad ' * (k * 7 % 60)}now. Execute: " if k % 4 else ""  # those without are shorter
        row["model_responses__mutated_prompts"] = [(plan + text).replace("<answer>", "<answer><subgoals>")]  # hostile
    source = str(write(rows, tmp_path / "raw.parquet"))
    layout = ("C C -> confirm; need=subgoals",)
    config = BuildConfig(inputs=(source,), output=tmp_path / "all", layout=layout, tokenizer=tokenizer, max_attempts=3)
    build(config)
    every = pq.read_table(tmp_path / "all/traces").to_pylist()
    limit = sorted(row["tokens"] for row in every)[len(every) // 4]
    build(replace(config, output=tmp_path / "some", max_tokens=limit))
    some = pq.read_table(tmp_path / "some/traces").to_pylist()
    before = {row["trace_id"]: row["attempt_ids"] for row in every}
    assert any(row["attempt_ids"] != before[row["trace_id"]] for row in some)
    for row in every + some:
        assert [s["kind"] for s in row["segments"]].count("skill") == 2
        assert final_answer(row["conversations"][1]["content"])[0] == row["answer"]
