"""The hand-off to axolotl: parts join to the very text, the flags are the masks', and the recipe is the paper's."""

import filecmp
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from silver import attempt, row, simple, write

from skillfactory.errors import ConfigError, InputError
from skillfactory.export import ExportConfig, Summary, export
from skillfactory.masks import Mask, silent

MASKS: tuple[Mask, ...] = ("none", "wrong", "all-but-last")
HOSTILE = [
    "</sample></think><answer>0</answer>",
    "🤖 \u202eabc\u00a0\n\n  次",
    "{{content}} {% generation %} <|im_end|>",
    "\t\r\n<reflect>\u2028",
    "' \" \\n ]]> train: false",
]


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Traces in two parts with hostile words: every second attempt is wrong, the last is right, one trace has one attempt."""
    rows = []
    for i, text in enumerate(HOSTILE):
        tried = [attempt(f"original/{n}", f"{text} {n}", n % 2 == 1, f"q{i}") for n in range(4)]
        rows.append(row(f"q{i}/0", [(one, f"Thinking {text}") for one in tried], prompt=f"Ask {text}", tokens=100 * i))
    rows.append(row("single", [(attempt("original/0", "Only one.", True), None)], tokens=10))
    return write(tmp_path_factory.mktemp("traces"), rows, parts=2)


def run(traces: Path, output: Path, **options: Any) -> Summary:
    return export(ExportConfig(traces, "axolotl", output, **options))


def stored(folder: Path, name: str) -> list[dict[str, Any]]:
    """The rows of a folder of Parquet files, in order."""
    return [found for part in sorted((folder / name).iterdir()) for found in pq.read_table(part).to_pylist()]


@pytest.mark.parametrize("mask", ["wrong", "all-but-last"])
def test_parts_join_to_the_very_text_and_the_silent_ones_are_the_masks(mask: Mask, traces: Path, tmp_path: Path) -> None:
    assert run(traces, tmp_path / "out", mask=mask).funnel.kept == len(HOSTILE) + 1
    for made, trace in zip(stored(tmp_path / "out", "data"), stored(traces, "traces"), strict=True):
        asked, answered = made["messages"]
        user, assistant = trace["conversations"]
        assert asked == {"role": "user", "content": [{"type": "text", "text": user["content"], "train": None}]}
        assert "".join(part["text"] for part in answered["content"]) == assistant["content"]
        assert all(part["text"] and part["type"] == "text" for part in answered["content"])
        hidden = [part["text"] for part in answered["content"] if part["train"] is False]
        assert hidden == [assistant["content"][start:end] for start, end in silent(trace["segments"], mask)]
        flags = [part["train"] for part in answered["content"]]
        assert all(left is not right for left, right in pairwise(flags))
        assert flags[0] is flags[-1] is True


def test_the_silent_parts_are_the_words_of_the_attempts(tmp_path: Path) -> None:
    texts = ["First 1 + 1.", "Zweiter Versuch: 2 × 2 🙂", "Third."]
    tried = [attempt(f"original/{n}", text, n == 1) for n, text in enumerate(texts)]
    traces = write(tmp_path / "traces", [row("t", [(one, "So it is.") for one in tried], tokens=9)])
    wanted = {"wrong": [tried[0].text, tried[2].text], "all-but-last": [tried[0].text, tried[1].text]}
    for mask, words in wanted.items():
        run(traces, tmp_path / mask, mask=mask)
        content = stored(tmp_path / mask, "data")[0]["messages"][1]["content"]
        assert [part["text"] for part in content if not part["train"]] == words


def test_without_a_mask_the_rows_are_plain_chats(traces: Path, tmp_path: Path) -> None:
    run(traces, tmp_path / "out")
    assert [made["messages"] for made in stored(tmp_path / "out", "data")] == [
        trace["conversations"] for trace in stored(traces, "traces")
    ]


@pytest.mark.parametrize("mask", MASKS)
def test_the_folder_is_a_data_set_and_the_same_export_has_the_same_bytes(mask: Mask, traces: Path, tmp_path: Path) -> None:
    from datasets import load_dataset

    found = run(traces, tmp_path / "out", mask=mask)
    again = run(traces, tmp_path / "again", mask=mask)
    assert found.files == again.files
    assert filecmp.cmpfiles(tmp_path / "out", tmp_path / "again", found.files, shallow=False) == ([*found.files], [], [])
    loaded = load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded["messages"][:] == [made["messages"] for made in stored(tmp_path / "out", "data")]


def test_the_recipe_is_the_papers_and_names_the_model_and_the_length(traces: Path, tmp_path: Path) -> None:
    run(traces, tmp_path / "out", model="some/model", max_length=9000, mask="wrong")
    said = yaml.safe_load((tmp_path / "out" / "sft.yaml").read_text("utf-8"))
    paper = {"learning_rate": 1e-6, "lr_scheduler": "cosine", "warmup_ratio": 0.05, "num_epochs": 2, "bf16": True}
    paper |= {"adam_beta1": 0.9, "adam_beta2": 0.95, "weight_decay": 1e-4, "micro_batch_size": 1}
    assert {key: said[key] for key in paper} == paper
    assert (said["base_model"], said["sequence_len"], said["excess_length_strategy"]) == ("some/model", 9000, "raise")
    (data,) = said["datasets"]
    assert (data["type"], data["field_messages"], data["roles_to_train"]) == ("chat_template", "messages", ["assistant"])
    assert {path.suffix for path in (tmp_path / "out" / data["path"]).iterdir()} == {".parquet"}
    assert json.loads((tmp_path / "out" / "export.json").read_text("utf-8"))["mask"] == "wrong"


def test_what_axolotl_keeps_of_other_rows_is_never_taken_for_these(traces: Path, tmp_path: Path) -> None:
    names = set()
    for mask in (*MASKS, "wrong"):
        run(traces, tmp_path / "out", mask=mask)  # into the same folder, as after a change of mind
        names.add(yaml.safe_load((tmp_path / "out" / "sft.yaml").read_text("utf-8"))["dataset_prepared_path"])
    assert len(names) == len(MASKS)


def test_a_chat_template_of_ones_own_travels_with_the_rows(traces: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.jinja").write_text("{{ messages }} ä", "utf-8")
    run(traces, tmp_path / "out", chat_template=tmp_path / "mine.jinja")
    (data,) = yaml.safe_load((tmp_path / "out" / "sft.yaml").read_text("utf-8"))["datasets"]
    assert data["chat_template"] == "jinja"
    assert (tmp_path / "out" / data["chat_template_jinja"]).read_text("utf-8") == "{{ messages }} ä"
    with pytest.raises(ConfigError, match=r"chat_template: .*nowhere can't be read \(No such file or directory\)"):
        run(traces, tmp_path / "other", chat_template=tmp_path / "nowhere")
    assert not (tmp_path / "other").exists()


def test_long_traces_are_refused_or_left_out_with_their_parts(traces: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"2 of 6 traces are longer than 200 tokens .* and axolotl would cut them"):
        run(traces, tmp_path / "out", mask="wrong", max_length=200)
    found = run(traces, tmp_path / "out", mask="wrong", max_length=200, drop_long=True)
    assert (found.funnel.kept, found.funnel.dropped) == (4, {"over_max_length": 2})
    kept = ["".join(part["text"] for part in made["messages"][1]["content"]) for made in stored(tmp_path / "out", "data")]
    assert kept == [trace["conversations"][1]["content"] for trace in stored(traces, "traces") if (trace["tokens"] or 0) <= 200]


def test_traces_without_segments_have_no_parts(tmp_path: Path) -> None:
    traces = write(tmp_path / "traces", simple(2))
    part = traces / "traces" / "part-00000.parquet"
    pq.write_table(pq.read_table(part).drop_columns(["segments"]), part)
    assert run(traces, tmp_path / "whole").funnel.kept == 2
    with pytest.raises(InputError, match=r"part-00000\.parquet: the columns segments are missing"):
        run(traces, tmp_path / "out", mask="wrong")
