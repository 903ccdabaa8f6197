"""Uploads to the Hub: the real client and a local stand-in; private unless said, nothing half done, cards that hold traps."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from silver import simple, write
from tiny_hub import TOKEN, TinyHub

from skillfactory.audit import AuditConfig, audit
from skillfactory.errors import ConfigError, InputError
from skillfactory.export import export as run_export
from skillfactory.export.card import card, code, counts, fenced, placeless
from skillfactory.export.chat import export as write_chats
from skillfactory.export.target import ExportConfig, Upload
from skillfactory.progress import Silent
from skillfactory.tracefiles import TraceFiles

NAME = "someone/silver"


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    """Ten traces in three parts, and what a build says of itself."""
    return write(tmp_path / "traces", simple(10, (100, 5000, None)), parts=3)


def export(traces: Path, hub: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "skillfactory", "export", str(traces), "--to", "hub", "--repo", NAME, *arguments]
    folder = traces.parent
    own = {"HF_HOME": str(folder / "home"), "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": TOKEN}
    own |= {"HF_ENDPOINT": hub, "HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "0"}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=os.environ | own | environment)


def held(folder: Path) -> dict[str, bytes]:
    """The files of a folder of an export, save the account, which stays at home."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != "export.json"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def read_back(folder: Path, hub: str) -> Path:
    """Where the client puts the data set that it brings from the stand-in."""
    command = f"import huggingface_hub; print(huggingface_hub.snapshot_download({NAME!r}, repo_type='dataset'))"
    own = {"HF_HOME": str(folder / "other"), "HF_ENDPOINT": hub, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, timeout=60, env=os.environ | own)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


def test_an_upload_is_private_one_commit_and_read_back_byte_for_byte(traces: Path) -> None:
    out = traces.with_name("traces-hub")
    with TinyHub(NAME) as hub:
        done = export(traces, hub.url, "--licence", "apache-2.0")
        assert done.returncode == 0, done.stderr
        assert f"uploaded to {hub.url}/datasets/{NAME} (private)" in done.stdout
        assert [(each["name"], each["organization"], each["visibility"]) for each in hub.created] == [
            ("silver", "someone", "private")
        ]
        assert len(hub.commits) == 1
        assert hub.files == held(out)
        back = held(read_back(traces.parent, hub.url))
    assert len([name for name in back if name.startswith("data/")]) == 3
    assert back == held(out)
    assert (out / "export.json").exists()


def test_a_public_data_set_is_public(traces: Path) -> None:
    with TinyHub(NAME) as hub:
        done = export(traces, hub.url, "--public")
        assert (done.returncode, hub.created[0]["visibility"], hub.private) == (0, "public", False)
        assert "(public)" in done.stdout


def test_what_an_earlier_export_left_goes_and_what_others_put_there_stays(traces: Path, tmp_path: Path) -> None:
    for name in ("data/train-00007-of-00008.parquet", "drops/part-00000.parquet", "notes/own.txt"):
        (tmp_path / "there" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "there" / name).write_text("old")
    with TinyHub(NAME, tmp_path / "there") as hub:
        hub.private = True
        done = export(traces, hub.url)
        assert done.returncode == 0, done.stderr
        assert hub.files == held(traces.with_name("traces-hub")) | {"notes/own.txt": b"old"}
        assert len(hub.commits) == 1


def test_a_public_data_set_that_is_there_is_not_written_to_unless_that_is_said(traces: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "own.txt").write_text("old")
    with TinyHub(NAME, tmp_path / "there") as hub:
        done = export(traces, hub.url)
        assert (done.returncode, hub.commits, hub.created) == (2, [], [])
        assert (
            "someone/silver is there and public, and all would see what is added; if that is meant, give --public"
            in done.stderr
        )
        assert not traces.with_name("traces-hub").exists()
        assert export(traces, hub.url, "--public").returncode == 0


def test_offline_no_token_and_an_unknown_licence_fail_before_any_work(traces: Path) -> None:
    out = traces.with_name("traces-hub")
    with TinyHub(NAME) as hub:
        for arguments, environment, message in (
            ([], {"HF_HUB_OFFLINE": "1"}, "hub: HF_HUB_OFFLINE (or TRANSFORMERS_OFFLINE) is set, so nothing can be uploaded"),
            ([], {"HF_TOKEN": ""}, "hub: there is no token; set HF_TOKEN, or log in with `hf auth login`"),
            ([], {"HF_TOKEN": "hf_wrong"}, "refuses, or can't be reached, so nothing was done: "),
            (["--licence", "homemade-1.0"], {}, '"license" must be one of those known, not homemade-1.0'),
        ):
            done = export(traces, hub.url, *arguments, **environment)
            assert (done.returncode, message in done.stderr) == (2, True), done.stderr
            assert "Traceback" not in done.stderr
            assert "hf_wrong" not in done.stderr
            assert not out.exists()
        assert (hub.created, hub.commits) == ([], [])
    done = export(traces, hub.url)  # nobody listens any more
    assert (done.returncode, out.exists(), "Traceback" in done.stderr) == (2, False, False)
    assert f"hub: {hub.url} refuses, or can't be reached, so nothing was done: " in done.stderr
    assert done.stderr.count("Connection refused") == 1
    assert "look at the network, the token (`hf auth whoami`) and HF_ENDPOINT" in done.stderr


@pytest.mark.parametrize(
    ("upload", "message"),
    [
        (Upload("silver"), "upload.repo: expected OWNER/NAME"),
        (Upload("../../x"), "upload.repo: expected OWNER/NAME"),
        (Upload("a/b--c"), "upload.repo: expected OWNER/NAME"),
        (Upload("a/b\n"), "upload.repo: expected OWNER/NAME"),
        (Upload(), "upload.repo: the target hub needs the data set's name: --repo OWNER/NAME"),
        (Upload("a/b", licence="mit\nevil: true"), "upload.licence: expected a licence's id"),
    ],
)
def test_names_that_the_hub_would_not_take_are_refused(upload: Upload, message: str, traces: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        run_export(ExportConfig(traces, "hub", upload=upload))
    assert not traces.with_name("traces-hub").exists()


@pytest.mark.parametrize(("path", "status"), [("/api/repos/create", 403), ("/commit/", 500)])
def test_a_server_that_fails_leaves_the_folder_and_the_error_says_how_to_go_on(path: str, status: int, traces: Path) -> None:
    out = traces.with_name("traces-hub")
    with TinyHub(NAME, failing={path: status}) as hub:
        done = export(traces, hub.url)
        assert (done.returncode, hub.commits) == (2, []), done.stderr
        assert f"hub: the upload to {NAME} failed: " in done.stderr
        assert str(status) in done.stderr
        assert f"The folder {out} is complete." in done.stderr
        assert f"hf upload {NAME} {out} --repo-type dataset --exclude export.json" in done.stderr
        assert "Traceback" not in done.stderr
        assert TOKEN not in done.stderr
        assert sum(pq.read_table(part).num_rows for part in (out / "data").iterdir()) == 10
        hub.failing.clear()
        assert export(traces, hub.url).returncode == 0
        assert hub.files == held(out)


HOSTILE = "evil`` ``` \n---\nlicense: none\n# Title <script>alert(1)</script> [x](javascript:1) | a \u202e \x1b[2J"


def carded(directory: Path, folder: Path, upload: Upload) -> str:
    """The card of the traces, as their export writes it."""
    source = TraceFiles.open(directory, ("trace_id", "conversations", "tokens"))
    folder.mkdir()
    write_chats(source, folder, ExportConfig(directory, "chat"), Silent())
    return card(source, upload, counts(folder / "data"))


def test_the_card_tells_what_the_rows_are_how_they_came_about_and_what_is_not_known(traces: Path, tmp_path: Path) -> None:
    text = carded(traces, tmp_path / "before", Upload(NAME, licence="mit"))
    head = yaml.safe_load(text.split("---\n")[1])
    assert (head["license"], head["size_categories"], head["pretty_name"]) == ("mit", ["n<1K"], "silver")
    for expected in (
        "10 silver traces",
        "Which model wrote the attempts is not known here.",
        "| `*C_full` | 10 |",
        "| `2` | 10 |",
        "Tokens of a trace: mean 2,200, 5th percentile 100, median 100, 95th percentile 5,000, longest 5,000.",
        "3 traces have no token count",
        "`skillfactory audit` was not run on these traces. So it is not known",
        "`mit`, as whoever uploaded this says.",
        "arXiv:2512.04072",
        f'load_dataset("{NAME}", split="train")',
    ):
        assert expected in text
    audit(AuditConfig(traces))
    text = carded(traces, tmp_path / "after", Upload(NAME))
    assert "license" not in yaml.safe_load(text.split("---\n")[1])
    assert "Whoever uploaded this has named none." in text
    assert "- broken traces: 0.0% (0 of 10; 0.0-27.8 %)" in text
    assert "questions that are among an evaluation's: not looked for" in text


def test_names_of_others_stay_text_and_paths_of_the_machine_stay_at_home(tmp_path: Path) -> None:
    traces = write(tmp_path / "traces", simple(3))
    run = tmp_path / "secret" / "run"
    run.mkdir(parents=True)
    settings = {
        "task": HOSTILE,
        "file": str(tmp_path / "secret" / "own.jsonl"),
        "url": "http://me:pw@10.0.0.1/v1",
        "note": HOSTILE,
    }
    counted = {"attempts/requested": 9, "attempts/kept": 6, f"attempts/dropped/{HOSTILE}": 3}
    (run / "run.json").write_text(json.dumps({"command": "curate", "model": HOSTILE, "settings": settings, "counts": counted}))
    build = {"settings": {"inputs": [str(run)], "layout": [HOSTILE]}, "funnels": []}
    (traces / "build.json").write_text(json.dumps(build))
    text = carded(traces, tmp_path / "out", Upload(NAME))
    head = text.split("---\n")[1]
    assert set(yaml.safe_load(head)) == {"task_categories", "size_categories", "tags", "pretty_name", "configs"}
    for secret in (str(tmp_path), "me:pw", "10.0.0.1", "\x1b", "\u202e"):
        assert secret not in text
    assert "own.jsonl" in text
    outside = _outside(text)
    for trap in ("<script>", "[x](", "# Title", "license: none"):
        assert trap in text
        assert trap not in outside
    table = [line for line in text.splitlines() if line.startswith("| `curate`")]
    assert [line.replace("\\|", "").count("|") for line in table] == [6]


def test_an_account_that_no_build_wrote_is_an_error_that_names_it(tmp_path: Path) -> None:
    traces = write(tmp_path / "traces", simple(2))
    for text in ('{"funnels": [{"no": 1}]}', '{"settings": []}'):
        (traces / "build.json").write_text(text)
        with pytest.raises(InputError, match=r"build\.json: not what `skillfactory build` wrote"):
            carded(traces, tmp_path / str(len(text)), Upload(NAME))
    (traces / "build.json").write_text("{}")
    (traces / "audit.json").write_text('{"traces": 2, "arithmetic": 5}')
    with pytest.raises(InputError, match=r"audit\.json: not what `skillfactory audit` wrote"):
        carded(traces, tmp_path / "audited", Upload(NAME))


def _outside(text: str) -> str:
    """What stands in no block of code and no code span, as CommonMark reads them."""
    kept: list[str] = []
    fence = ""
    for line in text.splitlines():
        ticks = line[: len(line) - len(line.lstrip("`"))]
        if fence:
            fence = "" if len(ticks) >= len(fence) and line.strip("`").strip() == "" else fence
        elif len(ticks) >= 3:
            fence = ticks
        else:
            kept.append(line)
    outside, rest = "", "\n".join(kept)
    while "`" in rest:
        before, _, after = rest.partition("`")
        ticks = "`" * (1 + len(after) - len(after.lstrip("`")))
        after = after.lstrip("`")
        ends = [at for at in range(len(after)) if after.startswith(ticks, at) and after[at - 1 : at] != "`"]
        end = next((at for at in ends if after[at + len(ticks) : at + len(ticks) + 1] != "`"), None)
        outside, rest = outside + before, after if end is None else after[end + len(ticks) :]
    return outside + rest


@pytest.mark.parametrize("text", ["a`b", "```\nx", "``", "`", "a```", "plain", "", "\n", "|"])
def test_a_code_span_holds_whatever_it_is_given(text: str) -> None:
    assert _outside(f"x {code(text)} y").replace(" ", "") == "xy"
    assert _outside(f"x\n{fenced(text, 'yaml')}\ny").split() == ["x", "y"]


@pytest.mark.parametrize(
    ("value", "left"),
    [
        ("/some/where/one", "one"),
        ("C:\\data\\two", "two"),
        ("~/three/", "three"),
        ("../four", "four"),
        ("s3://bucket/five", "five"),
        ("Qwen/Qwen2.5-1.5B", "Qwen/Qwen2.5-1.5B"),
        ("Plan, then execute.", "Plan, then execute."),
        (3, 3),
    ],
)
def test_settings_lose_the_places_of_the_machine(value: Any, left: Any) -> None:
    assert placeless({"a": [value]}) == {"a": [left]}
