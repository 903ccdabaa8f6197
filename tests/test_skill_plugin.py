"""Skills as plug-ins: the one that ships, one that the manual adds as written, and the whole way from prompt to count."""

import json
import re
import shlex
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_markup import PIECES

from skillfactory.build import BuildConfig, build
from skillfactory.cli import main
from skillfactory.curate import CurateConfig, Generation, Prompting, Wanted
from skillfactory.curation import curate
from skillfactory.engines.scripted import ScriptedEngine, ScriptedOptions
from skillfactory.errors import ConfigError
from skillfactory.flow import Request
from skillfactory.gathering.pages import gathered
from skillfactory.markup import final_answer, neutral, parse
from skillfactory.outputs import outputs
from skillfactory.records import Check, Kind
from skillfactory.report import Example
from skillfactory.report.passages import passages
from skillfactory.skills import shown
from skillfactory.skills.base import Skill, divide, resolve, resolved
from skillfactory.skills.subgoals import SUBGOALS, detect, find
from skillfactory.skillset import SKILLS
from skillfactory.usage.inventory import inventory
from skillfactory.usage.options import SkillsConfig

HERE = Path(__file__).parent
PAGE = (HERE.parent / "docs/skills.md").read_text("utf-8")
CASES = json.loads((HERE / "cases/subgoals.json").read_text("utf-8"))
Row = dict[str, Any]

NOTHING = Skill("nothing", (), lambda text: None, lambda text: 0)
EVERYTHING = Skill("everything", (), lambda text: (0, len(text)), lambda text: 0)
ASTRAY = Skill("astray", (), lambda text: (3, len(text) + 1), lambda text: 0)
OTHER_SUBGOALS = replace(SUBGOALS, variants=("original",))


def model(request: Request) -> str:
    """A multiplier that plans or estimates where it is asked to, mostly, and a reviewer, by the request's seed."""
    random = Random(request.seed)
    asked = "\n".join(text for _, text in request.messages)
    a, b = map(int, re.findall(r"\d+", asked)[:2])
    if "<verdict>" in asked:
        return f"Let me see, {random.random()}.\n<verdict>{random.choice(['Correct', 'Incorrect'])}</verdict>"
    value = a * b + random.randint(0, 1)
    opening = ""
    if random.random() < 0.8:
        opening = f"Plan: split {random.random()}. Execute: " if "plan" in asked else opening
        opening = f"Estimate: about {random.random()}\n" if "Estimate" in asked else opening
    return f"{opening}{a} * {b} = {value}.\n<answer>{value}</answer>"


def rows(table: Path) -> list[Row]:
    return sorted(pq.read_table(table).to_pylist(), key=str)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_subgoals_finds_plans_and_nothing_else(case: Row) -> None:
    blocks, rest = divide(case["text"], "plan_and_execute", [SUBGOALS])
    assert [block.text.strip() for block in blocks] == [case["block"]] * (case["block"] is not None)
    assert bool(blocks) or rest == case["text"]
    assert final_answer(rest) == final_answer(case["text"])
    assert divide(case["text"], "original", [SUBGOALS]) == ((), case["text"])


def test_plans_in_untagged_text_are_counted() -> None:
    text = CASES[0]["text"]
    assert detect("no such thing") == 0
    assert detect(f"{text}\nThat fails.\n{text}") == 2
    assert detect("\n".join(case["text"] for case in CASES if case["block"])) >= 10
    assert 50 < detect(f"{text}\n" * 500) == detect(f"{text}\n" * 1000) <= 64  # no text is worth more


PLANNING = [*PIECES, "Plan:", "\nPlan:\n", "Execute:", ". Execute: ", "\n1. ", "\n- ", "Step 2: ", "7", "goals", "\n\n"]


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(PLANNING), max_size=24).map("".join))
def test_a_block_takes_nothing_away_and_adds_nothing_whatever_the_text(text: str) -> None:
    blocks, rest = divide(text, "plan_and_execute", [SUBGOALS])
    assert Counter("".join(text.split())) == Counter("".join(f"{rest} {' '.join(block.text for block in blocks)}".split()))
    assert final_answer(rest) == final_answer(text)
    assert all(neutral(block.text).strip() for block in blocks)
    assert not blocks or rest.partition("<answer>")[0].strip()


@pytest.mark.parametrize("piece", ["Plan:\n", "Plan: \n1. a\nExecute:\n", "1.\n", "- a\n", " ", "#", "plan ", "a ", "<answer>"])
def test_a_megabyte_is_searched_in_linear_time(piece: str) -> None:
    text = piece * (1_000_000 // len(piece))
    started = time.process_time()
    find(text)
    detect(text)
    assert time.process_time() - started < 4


def test_what_a_plug_in_does_wrong_is_named_or_does_no_harm() -> None:
    text = "so\n<answer>7</answer>"
    assert divide(text, "v", [EVERYTHING, NOTHING]) == ((), text)
    with pytest.raises(ConfigError, match="skill 'astray': find gave 3 to 22 of a text of 21 characters"):
        divide(text, "v", [ASTRAY])
    with pytest.raises(ConfigError, match="skill 'Plan': a name is a tag: expected up to 32 of a-z"):
        Skill("Plan", (), find, detect)
    with pytest.raises(ConfigError, match="<sample> is a tag of the trace format"):
        Skill("sample", (), find, detect)


def test_skills_resolve_by_name_or_from_a_module() -> None:
    assert {name: resolve(name).name for name in SKILLS} == {name: name for name in SKILLS}
    assert resolve("subgoals") is SUBGOALS
    assert resolved(["subgoals", f"{__name__}:NOTHING", "subgoals"]) == (SUBGOALS, NOTHING)
    for name, message in {
        "subgoal": "unknown skill 'subgoal'; did you mean 'subgoals'?",
        "nowhere.at.all:X": "the module of the skill 'nowhere.at.all:X' can't be imported",
        ":X": "the module of the skill ':X' can't be imported",
        f"{__name__}:NOTHIN": "did you mean 'NOTHING'?",
        f"{__name__}:model": "isn't a skill: expected a skillfactory.skills.base.Skill, came function",
    }.items():
        with pytest.raises(ConfigError, match=re.escape(message)):
            resolve(name)
    with pytest.raises(ConfigError, match="another skill of the name 'subgoals' is in use"):
        resolved(["subgoals", f"{__name__}:OTHER_SUBGOALS"])


def curated(output: Path, mode: str, layout: str, samples: int = 6) -> Path:
    config = CurateConfig(
        output,
        "multiplication",
        level="2",
        questions=12,
        mode=mode,  # type: ignore[arg-type]
        samples=samples,
        reflections=3,
        wanted=Wanted(layout=(layout,)),
        generation=Generation(engine="scripted"),
    )
    curate(config, engine=lambda: ScriptedEngine(ScriptedOptions(answer=model)))
    return output


@pytest.mark.parametrize("layout", ["paper; need=subgoals", "*C*IC; need=subgoals", "*C_full; show=subgoals"])
def test_lazy_and_eager_end_in_the_same_traces_of_skills(tmp_path: Path, layout: str) -> None:
    lazy, eager = (curated(tmp_path / mode, mode, layout) for mode in ("lazy", "eager"))
    for run in (lazy, eager):
        build(BuildConfig(inputs=(str(run),), output=tmp_path / f"from-{run.name}", layout=(layout,)))
    assert rows(tmp_path / "from-lazy/traces") == rows(tmp_path / "from-eager/traces")
    few, many = (sum(len(rows(run / name)) for name in ("attempts", "reflections")) for run in (lazy, eager))
    assert few < many
    for trace in rows(tmp_path / "from-lazy/traces"):
        text, segments = trace["conversations"][1]["content"], trace["segments"]
        parsed = parse(text)
        assert parsed.well_formed
        assert [(p.kind, p.skill) for p in parsed.parts] == [(s["kind"], s["skill"]) for s in segments]
        blocks = [n for n, s in enumerate(segments) if s["kind"] == Kind.SKILL]
        assert "need" not in layout or len(blocks) == len(trace["attempt_ids"])
        for n in blocks:
            block, attempt = segments[n : n + 2]
            assert text[block["start"] : block["end"]].startswith("Plan: split")
            assert text[attempt["start"] : attempt["end"]].startswith("Execute:")
            assert (block["attempt_id"], block["right"]) == (attempt["attempt_id"], attempt["right"])


def test_curation_asks_with_the_variants_of_a_skill_if_no_other_elicits_it(tmp_path: Path) -> None:
    def asked(mode: str, layout: str, **prompts: Any) -> list[str]:
        wanted = Wanted(layout=(layout,))
        config = CurateConfig(tmp_path, "multiplication", mode=mode, prompts=Prompting(**prompts), wanted=wanted)  # type: ignore[arg-type]
        return [variant.name for variant in config.curation().variants]

    original = {"variants": ("original",)}
    assert asked("lazy", "paper; need=subgoals", **original) == ["original", "plan_and_execute"]
    assert asked("lazy", "paper; need=subgoals", variants=("plan_and_execute",)) == ["plan_and_execute"]
    assert asked("eager", "paper; need=subgoals", **original) == ["original"]  # eager curation serves any layout
    assert asked("eager", "paper", **original, skills=("subgoals",)) == ["original", "plan_and_execute"]
    assert asked("lazy", "paper", **original) == ["original"]
    with pytest.raises(ConfigError, match="unknown skill 'subgoal'; did you mean 'subgoals'"):
        asked("eager", "paper", skills=("subgoal",))


def test_traces_without_skills_are_what_they_were_and_those_with_them_say_which(tmp_path: Path) -> None:
    run = curated(tmp_path / "run", "eager", "paper", samples=3)
    for name, layout in {"plain": "*C", "shown": "*C; show=subgoals"}.items():
        build(BuildConfig(inputs=(str(run),), output=tmp_path / name, layout=(f"mine = {layout}",)))
    plain, seen = rows(tmp_path / "plain/traces"), rows(tmp_path / "shown/traces")
    assert set(plain[0]["segments"][0]) == {"kind", "start", "end", "attempt_id", "right"}
    assert set(seen[0]["segments"][0]) == {"kind", "start", "end", "attempt_id", "right", "skill"}
    assert [row["attempt_ids"] for row in plain] == [row["attempt_ids"] for row in seen]
    for before, after in zip(plain, seen, strict=True):
        texts = [re.sub(r"</?(?:subgoals|sample)>", " ", row["conversations"][1]["content"]).split() for row in (before, after)]
        assert texts[0] == texts[1]


def test_responses_are_counted_by_block_and_by_untagged_text() -> None:
    plan = "Plan: add. Execute: 7."
    sample = f"<sample>\n{plan}\n<answer>7</answer>\n</sample>"
    tagged = f"<think>\n<subgoals>\n{plan}\n</subgoals>\n{sample}\n</think>\n<answer>7</answer>"
    found = shown(tagged, lambda answer: Check.RIGHT)
    assert (found.blocks, found.untagged, found.attempts) == ((("subgoals", 1),), (("subgoals", 1),), 1)
    own = shown(tagged.replace("subgoals", "nothing"), lambda answer: Check.RIGHT, (NOTHING,))
    assert dict(own.blocks) == {"subgoals": 0, "nothing": 1}
    assert dict(shown("<think><subgoals> </subgoals>", lambda answer: Check.RIGHT).blocks) == {"subgoals": 0}


def test_pages_show_a_block_as_what_it_is() -> None:
    sample = "<sample>\nExecute: 7.\n<answer>7</answer>\n</sample>"
    text = f"<think>\n<subgoals>\nPlan: add.\n</subgoals>\n{sample}\n</think>\n\nSo:\n\n<answer>\n7\n</answer>"
    found = [(heading, text[start:end]) for _, heading, start, end in passages(Example("2 + 5?", "7", text)) if heading]
    assert found[:2] == [("Skill: subgoals", "Plan: add."), ("Attempt 1: not checked", "Execute: 7.\n<answer>7</answer>")]
    own = Example("2 + 5?", "7", text.replace("subgoals", "nothing"), skills=("nothing",))
    assert [(class_, heading) for class_, heading, _, _ in passages(own)][:3] == [
        ("tags", ""),
        ("skill", "Skill: nothing"),
        ("tags", ""),
    ]


def told(line: str, changes: dict[str, str]) -> list[str]:
    """The arguments of a command of the manual, its model replaced by a scripted one and its sizes by small ones."""
    for before, after in changes.items():
        line = line.replace(before, after)
    return shlex.split(line)[1:]


def test_the_manual_adds_a_skill_as_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    python, variants = (re.search(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL) for kind in ("python", "yaml"))
    assert python
    assert variants
    (tmp_path / "estimates.py").write_text(python[1], "utf-8")
    (tmp_path / "estimates.yaml").write_text(variants[1], "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    scripted = f"--engine scripted --engine-option answer={__name__}:model"
    small = {
        "--model MODEL": f"{scripted} --questions 12 --samples 3 --reflections 3",
        "evaluate MODEL": f"evaluate MODEL {scripted} --variant estimate_first --variants-file estimates.yaml",
        "multiplication:3": "multiplication:3 --questions 5 --samples 2",
    }
    page = PAGE[PAGE.index("with your model for MODEL") :]
    commands = [line.strip() for line in page.splitlines() if line.startswith("    skillfactory ")]
    assert [line.split()[1] for line in commands] == ["curate", "build", "audit", "export", "evaluate"]
    for line in commands:
        quiet = [] if "audit" in line else ["--quiet"]
        assert main([*told(line, small), *quiet]) == 0, line
    printed = capsys.readouterr().out
    traces = rows(tmp_path / "traces/traces")
    blocks = Counter(s["skill"] for trace in traces for s in trace["segments"])["estimate"]
    assert blocks == sum(len(trace["attempt_ids"]) for trace in traces) > 5
    assert f"blocks of skills: estimate {blocks}" in printed
    assert "broken traces: 0.0%" in printed
    (chats,) = (tmp_path / "chat/data").glob("*.parquet")
    assert sum(row["messages"][1]["content"].count("<estimate>\nEstimate: about") for row in rows(chats)) == blocks
    numbers = json.loads((tmp_path / "runs/judged/evaluation.json").read_text("utf-8"))
    skills = numbers["groups"][0]["skills"]
    assert skills["subgoals"] == {"blocks": 0, "with_block": 0, "untagged": 0}
    responses = rows(tmp_path / "runs/judged/responses")
    assert skills["estimate"]["untagged"] == sum("Estimate" in row["text"] for row in responses) / len(responses) > 0
    assert all(dict(row["blocks"]) == {"subgoals": 0, "estimate": 0} for row in responses)
    assert main(["report", "traces", "--output", "page.html", "--quiet"]) == 0
    (selection,) = gathered(["traces"], outputs(["traces"])).selections
    seen = sum(len(each.attempts) for each in selection.examples)
    assert Path("page.html").read_text("utf-8").count("Skill: estimate</p>") == seen > 5


def tagged(request: Request) -> str:
    """A response with a block of the skill `nothing`."""
    return "<think>\n<nothing>\nhm\n</nothing>\n<sample>\n7\n<answer>7</answer>\n</sample>\n</think>\nSo:\n<answer>7</answer>"


def test_blocks_of_ones_own_skill_are_known_as_such_in_reports_of_evaluations(tmp_path: Path) -> None:
    run, own = str(tmp_path / "run"), f"{__name__}:NOTHING"
    asked = ["--task", "multiplication:2", "--questions", "3", "--samples", "1", "--skills", own]
    scripted = ["--engine", "scripted", "--engine-option", f"answer={__name__}:tagged"]
    assert main(["evaluate", "x", *asked, *scripted, "--output", run, "--quiet"]) == 0
    assert main(["report", run, "--output", str(tmp_path / "page.html"), "--quiet"]) == 0
    page = (tmp_path / "page.html").read_text("utf-8")
    assert page.count("Skill: nothing</p>") == page.count("Attempt 1: wrong</p>") > 0
    assert "Joining phrase</p>" not in page
    plain = str(tmp_path / "plain")
    assert main(["evaluate", "x", *asked[:-2], *scripted, "--output", plain, "--quiet"]) == 0
    for config in (SkillsConfig((run,)), SkillsConfig((plain,), skills=(own,))):
        (group,) = inventory(config).numbers["runs"][0]["groups"]
        assert group["skills"]["nothing"] == {"blocks": 1, "with_block": 1, "untagged": 0}
