"""Laws of the run directory: the same bytes whatever the order and the interruptions, and nothing made is lost or repeated."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pyarrow.parquet as pq
import pytest
import solver

from skillfactory.blocks import IN_VAIN
from skillfactory.build import BuildConfig, build
from skillfactory.curate import CurateConfig, Decoding, Generation, Prompting, Wanted
from skillfactory.curation import Summary, curate
from skillfactory.errors import ConfigError, EngineError, InputError, RunLockedError
from skillfactory.flow import Completion, Request, failed
from skillfactory.ledger import Ledger
from skillfactory.records import Stop
from skillfactory.rundir import locked

Model = Callable[[Request], str | Completion]


class CrashError(Exception):
    """What the engine of these tests dies of."""


class Shuffling:
    """An engine that answers with a function, in no order; it notes what it is asked, and dies after `life` completions."""

    capacity = 40

    def __init__(self, answer: Model = solver.answer, seed: int = 0, life: int = 10**9) -> None:
        self.answer, self.random, self.life = answer, Random(seed), life
        self.asked: list[Request] = []
        self.hand: list[Completion] = []
        self.closed = False

    def submit(self, requests: Sequence[Request]) -> None:
        self.asked += requests
        self.hand += map(self.complete, requests)

    def complete(self, request: Request) -> Completion:
        made, limit = self.answer(request), request.sampling.max_tokens
        if isinstance(made, Completion):
            return made
        words = made.split(" ")
        stop = Stop.END if len(words) <= limit else Stop.LENGTH
        return Completion(request.key, " ".join(words[:limit]), stop, 7, min(len(words), limit), limit)

    def collect(self) -> Sequence[Completion]:
        if self.life <= 0:
            raise CrashError
        self.random.shuffle(self.hand)
        count = self.random.randint(1, min(len(self.hand), 30))
        self.life -= count
        done, self.hand = self.hand[:count], self.hand[count:]
        return done

    def close(self) -> None:
        self.closed = True


def options(output: Path, **changes: Any) -> CurateConfig:
    base = CurateConfig(output, "multiplication", questions=66, samples=1, reflections=2, generation=Generation("test", "m"))
    return replace(base, **changes)


def run(config: CurateConfig, answer: Model = solver.answer, seed: int = 0, life: int = 10**9) -> tuple[Summary, Shuffling]:
    """A run on an engine of its own."""
    engine = Shuffling(answer, seed, life)
    return curate(config, engine=lambda: engine), engine


def crash(config: CurateConfig, life: int, seed: int = 0, answer: Model = solver.answer) -> None:
    with pytest.raises(CrashError):
        run(config, answer, seed, life)


def contents(directory: Path) -> dict[str, bytes]:
    """Every file of a run but its log."""
    files = (path for path in sorted(directory.rglob("*")) if path.is_file() and path.name != "log.jsonl")
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


def rows(directory: Path, table: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for part in sorted((directory / table).glob("*.parquet")):
        found += pq.read_table(part).to_pylist()
    return found


def never(*_: object) -> Any:
    raise AssertionError("the engine was used though there was nothing to do")


def test_the_files_do_not_depend_on_the_order_of_completion(tmp_path: Path) -> None:
    for mode in ("eager", "lazy"):
        for seed in (1, 2):
            run(options(tmp_path / f"{mode}{seed}", mode=mode), seed=seed)
        assert contents(tmp_path / f"{mode}1") == contents(tmp_path / f"{mode}2")
    assert contents(tmp_path / "eager1") != contents(tmp_path / "lazy1")


@pytest.mark.parametrize("mode", ["eager", "lazy"])
def test_a_run_that_died_goes_on_to_the_same_files_and_asks_nothing_twice(tmp_path: Path, mode: str) -> None:
    config = options(tmp_path / "died", mode=mode)
    _, whole = run(options(tmp_path / "whole", mode=mode), seed=9)
    finished: set[str] = set()
    for round, life in enumerate((1, 50, 133, 100)):
        crash(config, life, seed=round)
        finished |= {line.split('"key": "')[1].split('"')[0] for line in ledger_lines(tmp_path / "died")}
        finished |= {row["key"] for row in rows(tmp_path / "died", "completions")}
    _, last = run(config, seed=9)
    assert not finished & {request.key for request in last.asked}
    assert finished | {request.key for request in last.asked} == {request.key for request in whole.asked}
    assert contents(tmp_path / "died") == contents(tmp_path / "whole")


def ledger_lines(directory: Path) -> list[str]:
    return [line for path in directory.glob("ledger-*.jsonl") for line in path.read_text("utf-8").splitlines()]


@pytest.mark.parametrize("tail", [b'[3, {"key": "ab', b"\0\0\0\0", b'[3, {"key": 1}]\n', b'[1]\n[2]\n{"x": 1}\n', b"\xff\n"])
def test_what_a_kill_or_a_bad_disk_left_at_the_end_of_a_ledger_is_ignored(tmp_path: Path, tail: bytes) -> None:
    run(options(tmp_path / "whole"))
    crash(options(tmp_path / "died"), 300)
    ledger = tmp_path / "died" / "ledger-00000.jsonl"
    ledger.write_bytes(ledger.read_bytes() + tail)
    run(options(tmp_path / "died"))
    assert contents(tmp_path / "died") == contents(tmp_path / "whole")


def test_a_damaged_line_costs_its_own_completion_alone_and_is_told(tmp_path: Path) -> None:
    run(options(tmp_path / "whole"))
    crash(options(tmp_path / "died"), 300)
    ledger = tmp_path / "died" / "ledger-00000.jsonl"
    lines = ledger.read_bytes().splitlines(keepends=True)
    lost = json.loads(lines[1])[1]["key"]
    ledger.write_bytes(b"".join([lines[0], b"\0" * len(lines[1]), b"\n", *lines[2:]]))
    kept = {json.loads(line)[1]["key"] for line in lines} - {lost}
    summary, engine = run(options(tmp_path / "died"))
    asked = {request.key for request in engine.asked}
    assert lost in asked
    assert not asked & kept
    assert "ledger-00000.jsonl: 1 damaged lines were passed over; their requests are asked again" in str(summary)
    assert contents(tmp_path / "died") == contents(tmp_path / "whole")


@pytest.mark.parametrize("written", [("attempts",), ("attempts", "drops", "questions", "reflections", "completions")])
def test_a_kill_between_the_parts_of_a_block_changes_nothing(tmp_path: Path, written: tuple[str, ...]) -> None:
    config = options(tmp_path / "died", questions=3)
    run(replace(config, output=tmp_path / "whole"))
    crash(config, 20)
    whole = tmp_path / "whole"
    lines = [json.dumps([row.pop("flow"), {k: row[k] for k in row if k != "used"}]) for row in rows(whole, "completions")]
    (tmp_path / "died" / "ledger-00000.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    for table in written:
        (tmp_path / "died" / table).mkdir(exist_ok=True)
        shutil.copy(whole / table / "part-00000.parquet", tmp_path / "died" / table)
    _, engine = run(config)
    assert not engine.asked
    assert contents(tmp_path / "died") == contents(whole)


def test_what_a_kill_left_half_written_is_no_obstacle_and_goes(tmp_path: Path) -> None:
    whole, died = options(tmp_path / "whole"), options(tmp_path / "died")
    run(whole)
    died.output.mkdir()
    (died.output / ".run.json.left.tmp").write_bytes(b"{")
    crash(died, 300)
    for table in ("attempts", "completions"):
        (died.output / table).mkdir(exist_ok=True)
        (died.output / table / ".part-00000.parquet.left.tmp").write_bytes(b"PAR1")
    run(died)
    assert contents(died.output) == contents(whole.output)


def test_a_finished_run_has_nothing_to_do_and_opens_no_engine(tmp_path: Path) -> None:
    config = options(tmp_path)
    first, engine = run(config)
    assert engine.closed
    again = curate(config, engine=never)
    assert again.nothing_to_do
    assert "there is nothing to do" in str(again)
    assert again.funnels == first.funnels
    assert (again.tokens, again.new_texts) == (first.tokens, 0)


def test_the_account_adds_up_with_the_tables(tmp_path: Path) -> None:
    summary, engine = run(options(tmp_path))
    by_unit = {funnel.unit: funnel for funnel in summary.funnels}
    assert by_unit["attempts"].requested + by_unit["reflections"].requested == summary.new_texts == len(engine.asked)
    assert by_unit["questions"].requested == 66 == len(rows(tmp_path, "questions"))
    assert summary.tokens == summary.new_tokens == sum(row["tokens"] for row in rows(tmp_path, "completions"))
    lost = [row["reason"] for row in rows(tmp_path, "drops") if row["stage"] == "solve"]
    assert by_unit["attempts"].dropped == {reason: lost.count(reason) for reason in set(lost)}
    assert json.loads(json.dumps(summary.to_dict()))["funnels"][0]["unit"] == "questions"


def asked_after(tmp_path: Path, **changes: Any) -> tuple[list[Request], CurateConfig]:
    """What is asked when a setting of a finished run changes; the run must end as a fresh one of the new setting would."""
    config = options(tmp_path / "run")
    run(config)
    made = {(row["key"], row["limit"]) for row in rows(config.output, "completions")}
    changed = replace(config, **changes)
    _, engine = run(changed)
    run(replace(changed, output=tmp_path / "fresh"))
    for table in ("questions", "attempts", "reflections", "drops"):
        assert rows(changed.output, table) == rows(tmp_path / "fresh", table)
    kept = rows(changed.output, "completions")
    assert made <= {(row["key"], row["limit"]) for row in kept}
    assert [row for row in kept if row["used"]] == rows(tmp_path / "fresh", "completions")
    return engine.asked, config


def test_a_raised_limit_retries_only_the_truncated(tmp_path: Path) -> None:
    config = options(tmp_path / "run", decoding=Decoding(max_tokens=30))
    first, _ = run(config)
    cut = {row["key"] for row in rows(config.output, "completions") if row["stop"] == Stop.LENGTH}
    assert 0 < len(cut) < first.new_texts / 2
    raised = replace(config, decoding=Decoding(max_tokens=500))
    _, engine = run(raised)
    asked = {request.key for request in engine.asked}
    reviews = {request.key for request in engine.asked if "<verdict>" in request.messages[-1][1]}
    assert asked - reviews <= cut
    assert len(asked - reviews) == len(cut)
    run(replace(raised, output=tmp_path / "fresh"))
    assert rows(raised.output, "attempts") == rows(tmp_path / "fresh", "attempts")
    assert {(row["key"], row["limit"]) for row in rows(raised.output, "completions")} >= {(key, 30) for key in cut}


def test_changed_settings_are_told_with_what_was_used_again(tmp_path: Path) -> None:
    config = options(tmp_path / "run", questions=3)
    first, _ = run(config)
    assert not first.notes
    summary, engine = run(replace(config, reflections=1, decoding=Decoding(max_tokens=999)))
    reused = sum(row["used"] for row in rows(config.output, "completions"))
    told = f"settings changed (max_tokens: 1024 → 999; reflections: 2 → 1): {reused} stored texts served again, 0 are new"
    assert summary.notes == (told,)
    assert engine.asked == []
    own = tmp_path / "own.yaml"
    own.write_text("{system: null, template: '{question} {attempt} <verdict>Correct</verdict>?'}", "utf-8")
    summary, _ = run(replace(config, prompts=Prompting(reflection_file=own)))
    assert "template" in str(summary)


def test_a_changed_grader_of_ones_own_verifies_the_stored_attempts_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows_ = [json.dumps({"question": f"What is {n} * 3?", "answer": str(3 * n)}) for n in range(5)]
    (tmp_path / "data.jsonl").write_text("\n".join(rows_) + "\n", "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    source = tmp_path / "own_grader.py"
    source.write_text("def right(answer, gold, row):\n    return answer == gold\n", "utf-8")
    option = {"source": str(tmp_path / "data.jsonl"), "grader": "own_grader:right"}
    config = options(tmp_path / "run", task="custom", option=option, questions=None)
    run(config)
    assert run(config)[0].nothing_to_do
    source.write_text("def right(answer, gold, row):\n    return answer == gold + '0'\n", "utf-8")
    summary, engine = run(config)
    assert not summary.nothing_to_do
    assert not [request for request in engine.asked if "<verdict>" not in request.messages[-1][1]]
    assert "own_grader:right" in str(summary)


def test_a_key_given_in_place_of_its_variable_does_not_come_to_disk(tmp_path: Path) -> None:
    generation = Generation("openai", "m", {"api_key_env": "sk-s3cret"})
    with pytest.raises(ConfigError, match="api_key_env: expected the name of an environment variable") as error:
        curate(options(tmp_path / "run", generation=generation))
    assert "s3cret" not in str(error.value)
    assert not [path for path in (tmp_path / "run").iterdir() if "s3cret" in path.read_text("utf-8")]


@pytest.mark.parametrize(
    "option", [{"extended_sampling": False}, {"extra_body": {"min_p": 0.1}}, {"exact": False}, {"attention": "eager"}]
)
def test_a_directory_is_refused_for_engine_options_that_change_texts_but_not_for_their_defaults(
    tmp_path: Path, option: dict[str, Any]
) -> None:
    config = options(tmp_path / "run", questions=1)
    run(config)
    with pytest.raises(ConfigError, match="holds texts of the model 'm', not of 'm \\("):
        run(replace(config, generation=Generation("test", "m", option)))
    run(replace(config, generation=Generation("test", "m", {"exact": True, "extra_body": {}})))
    run(replace(config, generation=Generation("transformers", "m", {"exact": "true", "dtype": "auto", "threads": "1"})))


def test_more_samples_add_and_do_not_repeat(tmp_path: Path) -> None:
    asked, _ = asked_after(tmp_path, samples=2)
    attempts = [request for request in asked if "<verdict>" not in request.messages[-1][1]]
    assert len(attempts) == 66 * 4


def test_fewer_samples_and_fewer_questions_ask_nothing_and_keep_what_was_made(tmp_path: Path) -> None:
    asked, config = asked_after(tmp_path, samples=1, reflections=1, questions=3)
    assert asked == []
    again = curate(config, engine=lambda: Shuffling(never))
    assert again.new_texts == 0
    history = json.loads((config.output / "run.json").read_text("utf-8"))["history"]
    assert [past["settings"]["questions"] for past in history] == [66, 3]


def test_more_questions_ask_only_for_the_new_ones(tmp_path: Path) -> None:
    asked, _ = asked_after(tmp_path, questions=140)
    users = {request.messages[-1][1].split("\n")[0] for request in asked if "<verdict>" not in request.messages[-1][1]}
    assert len(users) <= 74


def test_a_changed_reflection_prompt_asks_for_reflections_alone(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("{system: null, template: '{question} {attempt} <verdict>Correct</verdict>?'}", "utf-8")
    asked, _ = asked_after(tmp_path, prompts=Prompting(reflection_file=own))
    assert asked
    assert all("<verdict>" in request.messages[-1][1] for request in asked)


def test_going_from_eager_to_lazy_asks_nothing(tmp_path: Path) -> None:
    assert asked_after(tmp_path, mode="lazy")[0] == []


def test_another_seed_asks_for_everything(tmp_path: Path) -> None:
    asked, config = asked_after(tmp_path, seed=1)
    assert len({request.key for request in asked}) == len(asked) > 66 * 4
    assert len(json.loads((config.output / "run.json").read_text("utf-8"))["history"]) == 1


def test_a_change_in_the_middle_of_a_change_loses_nothing(tmp_path: Path) -> None:
    config = options(tmp_path / "run", questions=10)
    run(config)
    crash(replace(config, seed=5), 60)
    made = len(rows(config.output, "completions")), len(ledger_lines(config.output))
    assert made[1] > made[0]
    _, engine = run(config)
    assert engine.asked == []
    assert len(rows(config.output, "completions")) == made[1]
    run(replace(config, output=tmp_path / "fresh"))
    assert rows(config.output, "attempts") == rows(tmp_path / "fresh", "attempts")


def test_what_the_engine_failed_on_is_asked_again_by_the_next_resume_and_nothing_else(tmp_path: Path) -> None:
    def flaky(request: Request) -> str | Completion:
        return failed(request, "gone") if request.seed % 97 == 0 else solver.answer(request)

    config = options(tmp_path / "run")
    summary, _ = run(config, flaky)
    errors = {row["key"] for row in rows(config.output, "completions") if row["stop"] == Stop.ERROR}
    assert sum(funnel.dropped.get("engine_error", 0) for funnel in summary.funnels) == len(errors) > 0
    _, engine = run(config)
    first = {request.key for request in engine.asked if request.seed % 97 == 0}
    assert errors <= first
    assert {request.key for request in engine.asked} - errors <= {
        r.key for r in engine.asked if "<verdict>" in r.messages[-1][1]
    }
    run(replace(config, output=tmp_path / "fresh"))
    assert contents(config.output) == contents(tmp_path / "fresh")


def dead(request: Request) -> Completion:
    return failed(request, "HTTP 404: no such model" if request.seed % 5 else "time out")


@pytest.mark.parametrize(("questions", "most"), [(66, 4 * IN_VAIN), (2, 8)])
def test_an_engine_that_gives_nothing_but_failures_is_an_error_and_the_run_can_go_on(
    tmp_path: Path, questions: int, most: int
) -> None:
    config = options(tmp_path / "run", questions=questions)
    for _ in range(2):
        engine = Shuffling(dead)
        with pytest.raises(
            EngineError, match=r"gave no text, but \d+ failures, \d+ times: HTTP 404: no such model\. Check the"
        ):
            curate(config, engine=lambda engine=engine: engine)  # type: ignore[misc]
        assert engine.closed
        assert len(engine.asked) <= most
        assert not json.loads((config.output / "run.json").read_text("utf-8"))["finished"]
    run(config)
    run(replace(config, output=tmp_path / "fresh"))
    assert contents(config.output) == contents(tmp_path / "fresh")


def test_requests_that_no_engine_will_ever_serve_do_not_stop_a_run_twice(tmp_path: Path) -> None:
    def picky(request: Request) -> str | Completion:
        return failed(request, "too long") if request.seed % 2 else solver.answer(request)

    config = options(tmp_path / "run")
    first, _ = run(config, picky)
    again, engine = run(config, picky)
    failures = sum(first.engine_errors.values())
    assert failures > 2 * IN_VAIN
    assert len(engine.asked) == sum(again.engine_errors.values()) == failures
    assert json.loads((config.output / "run.json").read_text("utf-8"))["finished"]


def test_the_summary_counts_no_failure_as_a_text_and_says_what_failed_most(tmp_path: Path) -> None:
    def flaky(request: Request) -> str | Completion:
        return dead(request) if request.seed % 9 == 0 else solver.answer(request)

    summary, engine = run(options(tmp_path), flaky)
    failures = sum(request.seed % 9 == 0 for request in engine.asked)
    assert summary.new_texts == len(engine.asked) - failures
    assert list(summary.engine_errors) == ["HTTP 404: no such model", "time out"]
    assert sum(summary.engine_errors.values()) == failures
    assert f"the engine gave up on {failures} requests, " in str(summary)
    assert "of them because: HTTP 404: no such model (each one's reason is in the table drops); the same command" in str(
        summary
    )


def test_progress_is_told_while_texts_come_and_not_only_when_a_question_ends(tmp_path: Path) -> None:
    class Told:
        def __init__(self) -> None:
            self.notes: list[tuple[int, str]] = []

        def begin(self, label: str, unit: str, total: int | None = None) -> None: ...

        def advance(self, n: int = 1, note: str = "") -> None:
            self.notes.append((n, note))

        def end(self) -> None: ...

    told, engine = Told(), Shuffling()
    curate(options(tmp_path), told, lambda: engine)
    assert (told.notes[0][0], told.notes[0][1][:9]) == (0, "1 texts, ")
    assert sum(n for n, _ in told.notes) == 66
    assert told.notes[-1][1].startswith(f"{len(engine.asked):,} texts, ")


def test_a_second_process_is_refused_and_told_who_is_at_work(tmp_path: Path) -> None:
    tmp_path.joinpath("run").mkdir()
    with locked(tmp_path / "run"), pytest.raises(RunLockedError, match=r"another process is at work .*\(process \d+ on \S+\)"):
        curate(options(tmp_path / "run"), engine=never)
    run(options(tmp_path / "run", questions=1))


def test_a_directory_of_another_model_command_or_content_is_refused(tmp_path: Path) -> None:
    config = options(tmp_path / "run", questions=1)
    run(config)
    with pytest.raises(ConfigError, match=r"holds texts of the model 'm', not of 'other'; .*choose another directory"):
        run(replace(config, generation=Generation("test", "other")))
    state = json.loads((config.output / "run.json").read_text("utf-8"))
    (config.output / "run.json").write_text(json.dumps(state | {"command": "evaluate"}), "utf-8")
    with pytest.raises(ConfigError, match="holds a run of 'evaluate', not of 'curate'"):
        run(config)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("dear diary", "utf-8")
    with pytest.raises(InputError, match=r"not a run directory .* and not empty \(it holds notes.txt\)"):
        run(options(tmp_path / "mine"))


def test_a_directory_whose_engine_never_started_is_free_for_another_model(tmp_path: Path) -> None:
    config = options(tmp_path / "run", questions=1)
    with pytest.raises(ConfigError, match="unknown engine 'tset'"):
        curate(replace(config, generation=Generation("tset", "mistyped")))
    run(config)
    run(replace(config, output=tmp_path / "fresh"))
    assert contents(config.output) == contents(tmp_path / "fresh")


def test_the_tables_are_read_by_datasets_and_pandas_as_they_are(tmp_path: Path) -> None:
    import datasets
    import pandas as pd

    run(options(tmp_path / "run", questions=2))
    for table in ("questions", "attempts", "reflections", "drops", "completions"):
        loaded = datasets.load_dataset(str(tmp_path / "run"), table, split="train", cache_dir=str(tmp_path / "cache"))
        assert loaded.to_list() == rows(tmp_path / "run", table)
        assert len(pd.read_parquet(tmp_path / "run" / table)) == len(loaded)


@pytest.mark.parametrize(
    ("changes", "without"),
    [
        ({"reflections": 0}, ["reflections"]),
        ({"questions": 65}, []),
        ({"questions": 1, "reflections": 0}, ["reflections", "drops"]),
    ],
)
def test_datasets_reads_a_run_whose_parts_are_empty_and_its_card_leaves_out_tables_without_rows(
    tmp_path: Path, changes: dict[str, int], without: list[str]
) -> None:
    import datasets

    config = options(tmp_path / "run", **changes)
    run(replace(config, questions=140))
    run(config)
    names = datasets.get_dataset_config_names(str(config.output))
    assert set(names) == {"questions", "attempts", "reflections", "drops", "completions"} - set(without)
    for table in names:
        loaded = datasets.load_dataset(str(config.output), table, split="train", cache_dir=str(tmp_path / "cache"))
        assert loaded.to_list() == rows(config.output, table)
    sizes = [pq.read_metadata(part).num_rows for part in config.output.glob("*/*.parquet")]
    assert 0 in sizes


def test_a_ledger_gives_back_what_it_was_given_and_never_a_text_that_does_not_serve(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl", tmp_path / "part.parquet")
    request = Request((("user", "\ud800\n\u2028 é \0"),), Decoding().sampling(100), 1)
    assert ledger.get(0, request) is None
    kept = Completion(request.key, "\ud800\n\u2028 é \0", Stop.LENGTH, 3, 100, 100)
    ledger.put(0, kept)
    ledger.close()
    again = Ledger(tmp_path / "ledger.jsonl", tmp_path / "part.parquet")
    assert again.get(5, request) == kept
    assert again.get(0, replace(request, sampling=Decoding().sampling(200))) is None
    assert [(row["flow"], row["used"], row["text"][0]) for row in again.table().to_pylist()] == [(5, True, "?")]
    again.remove()
    assert not (tmp_path / "ledger.jsonl").exists()


@pytest.mark.parametrize("layout", ["*C_full", "paper", "*C*IC"])
def test_a_build_from_a_lazy_run_has_the_rows_of_a_build_from_an_eager_one(tmp_path: Path, layout: str) -> None:
    built = []
    for mode in ("eager", "lazy"):
        run(options(tmp_path / mode, questions=12, samples=4, mode=mode, wanted=Wanted((layout,), 3)))
        build(BuildConfig((str(tmp_path / mode),), tmp_path / f"{mode}-built", (layout,), 3))
        built.append(rows(tmp_path / f"{mode}-built", "traces"))
    assert built[0] == built[1]
    assert len(built[0]) > 3
