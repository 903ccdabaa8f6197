"""Laws of `skillfactory skills`: whatever holds the texts, the same counts; findings with places; a judge's opinions kept."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import silver
import solver
from tiny_server import Body, Fault, TinyServer, answer

from skillfactory.cli import main
from skillfactory.engines.scripted import ScriptedEngine, ScriptedOptions
from skillfactory.errors import ConfigError, InputError
from skillfactory.evaluate import Answering, EvaluateConfig
from skillfactory.evaluation import NUMBERS, evaluate
from skillfactory.flow import Request
from skillfactory.seeds import rng
from skillfactory.skills.implicit import load_rules
from skillfactory.usage.inventory import FINDINGS, JUDGE, Inventory, inventory
from skillfactory.usage.options import Judging, SkillsConfig

CASES = Path(__file__).parent / "cases" / "implicit.json"
SUITE = """
groups:
  - {name: two, kind: in-domain, task: multiplication, level: 2, questions: 40, samples: 2, max_tokens: 400}
  - {name: three, kind: harder, task: multiplication, level: 3, questions: 30, samples: 1, max_tokens: 400}
"""


def tagged(request: Request) -> str:
    """A response of one to four attempts, each reviewed, some of them truly; some answer without tags."""
    random, right = rng(request.seed, "tagged"), solver.product(request.messages[-1][1])
    if random.random() < 0.2:
        return f"Let me check: <answer>{right + random.randint(0, 1)}</answer>"
    parts = []
    value = 0
    for _ in range(random.randint(1, 4)):
        value = right + random.randint(0, 2)
        said = "Correct" if (value == right) == (random.random() < 0.8) else "Incorrect"
        parts.append(f"<sample>\nOn second thought\n<answer>{value}</answer>\n</sample>\n")
        parts.append(f"<reflect>\nLet me verify it.\n<verdict>{said}</verdict>\n</reflect>\n")
    return f"<think>\n{''.join(parts)}</think>\n\nSo\n\n<answer>\n{value}\n</answer>"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluation of a scripted model that reviews its attempts."""
    folder = tmp_path_factory.mktemp("evaluation")
    (folder / "suite.yaml").write_text(SUITE, "utf-8")
    config = EvaluateConfig(
        "model", folder / "run", str(folder / "suite.yaml"), generation=Answering("scripted", {"answer": "solver:answer"})
    )
    evaluate(config, engine=lambda: ScriptedEngine(ScriptedOptions(tagged)))
    return folder / "run"


def told(numbers: Mapping[str, Any], run: int = 0) -> dict[str, Any]:
    """The numbers of a run's groups by name."""
    return {group["group"]: group for group in numbers["runs"][run]["groups"]}


def shown(*runs: object, **options: Any) -> Inventory:
    return inventory(SkillsConfig(tuple(str(run) for run in runs), **options))


def test_what_is_told_of_an_evaluation_is_what_its_own_numbers_say(run: Path) -> None:
    found = told(shown(run).numbers)
    counts = ("verdicts", "first_final", "transitions")
    means = ("answers", "reflections", "f1_correct", "f1_incorrect", "corrected", "spoiled", "repeats", "after_right")
    more = ("tokens_after_right", "stopped_after_correct", "ends_verified", "loops")
    for group in json.loads((run / NUMBERS).read_text("utf-8"))["groups"]:
        mine = found[group["name"]]
        assert {name: mine[name] for name in counts} == {name: group[name] for name in counts}
        assert [mine[name] for name in (*means, *more)] == pytest.approx([group[name] for name in (*means, *more)])
        assert mine["right"] == pytest.approx(group["checks"]["right"] / group["responses"])
        assert mine["first_final"]["wrong_right"] > 0
        assert mine["transitions"]["incorrect"]["wrong_right"] > 0


def test_courses_of_an_older_evaluation_are_made_from_its_texts(run: Path, tmp_path: Path) -> None:
    for name in ("run.json", "evaluation.json"):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    for table in ("questions", "responses"):
        (tmp_path / table).mkdir()
        for part in (run / table).glob("*.parquet"):
            held = pq.read_table(part)
            pq.write_table(
                held.drop_columns([n for n in ("course", "looped", "blocks", "untagged") if n in held.schema.names]),
                tmp_path / table / part.name,
            )
    assert told(shown(tmp_path).numbers) == told(shown(run).numbers)


def test_in_plain_words_only_attempts_of_tagged_responses_are_searched(run: Path) -> None:
    found = told(shown(run).numbers)["two"]["implicit"]
    assert found["backtrack"]["share"] > 0.5  # in the attempts
    assert 0 < found["verify"]["share"] < 0.5  # in texts without tags alone, though each reflection says "let me verify"


def test_every_finding_has_its_place(run: Path, tmp_path: Path) -> None:
    shown(run, output=tmp_path)
    texts = {
        row["id"]: row["text"]
        for part in sorted((run / "responses").glob("*.parquet"))
        for row in pq.read_table(part).to_pylist()
    }
    findings = pq.read_table(tmp_path / FINDINGS).to_pylist()
    assert {finding["quote"].lower() for finding in findings} == {"let me check", "on second thought"}
    assert all(texts[f["id"]][f["start"] : f["end"]] == f["quote"] for f in findings)
    counts = [
        group["implicit"]["verify"]["rules"] for group in told(json.loads((tmp_path / "skills.json").read_text())).values()
    ]
    assert sum(each.get("announced", 0) for each in counts) == sum(f["rule"] == "announced" for f in findings)


def test_traces_are_right_where_their_attempts_were(tmp_path: Path) -> None:
    wrong, right = silver.attempt("original/0", "hm", False), silver.attempt("original/1", "Let me try again.", True)
    wrong = replace(wrong, text="hm <answer>5 - 2</answer>", answer="5 - 2")
    rows = [silver.row(f"t{number}", [(wrong, "no"), (right, "yes")]) for number in range(3)]
    found = told(shown(silver.write(tmp_path / "traces", rows)).numbers)["*C_full"]
    assert (found["texts"], found["answers"], found["f1_correct"], found["ends_verified"]) == (3, 2.0, 1.0, 1.0)
    assert found["first_final"]["wrong_right"] == 3
    assert found["implicit"]["retry"]["rules"] == {"again": 3}


def test_texts_of_a_file_are_counted_with_what_somebody_says_they_show(tmp_path: Path) -> None:
    cases, rules = json.loads(CASES.read_text("utf-8")), load_rules()
    path = tmp_path / "cases.jsonl"
    path.write_text("".join(json.dumps(case) + "\n" for case in cases), "utf-8")
    numbers = shown(path, labels="skills").numbers
    assert told(numbers)["all"]["texts"] == len(cases)
    assert [(row["skill"], row["raters"], row["n"]) for row in numbers["agreement"]] == [
        (skill, ["labels", "rules"], len(cases)) for skill in sorted(rules.skills)
    ]
    for row in numbers["agreement"]:
        labelled = sum(row["skill"] in case["skills"] for case in cases)
        assert row["both"] + row["first"] == labelled
        assert row["kappa"]["low"] > 0.5


def test_parquet_and_jsonl_give_the_same_numbers(tmp_path: Path) -> None:
    rows = [{"response": text} for text in ("Let me check it.", "<think>\n<sample>\n<answer>3</answer>\n</sample>\n", "")]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    found = told(shown(tmp_path / "a.jsonl").numbers)
    assert found == told(shown(tmp_path / "a.parquet").numbers)
    assert (found["all"]["right"], found["all"]["first_right"], found["all"]["texts"]) == (None, None, 3)
    assert found["all"]["answers"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ('{"say": "x"}', {}, "has no column 'response or text'; it has: say"),
        ('{"say": "x"}', {"column": "said"}, "has no column 'said'; it has: say"),
        ('{"text": "x"}', {"labels": "shows"}, "has no column 'shows'"),
        ('{"text": 3}', {}, "row 1: 'text' must be text, not int"),
        ('{"text": "x"}\nnonsense', {}, "row 2: not JSON"),
        ('{"text": "x", "shows": "retry"}', {"labels": "shows"}, "row 1: 'shows' must be a list of skills, not str"),
        ("", {}, "has no column"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_by_row_or_column(
    tmp_path: Path, content: str, options: dict[str, str], message: str
) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text(content, "utf-8")
    with pytest.raises(InputError, match=re.escape(message)) as error:
        shown(path, **options)
    assert str(path) in str(error.value)


def test_what_holds_no_texts_is_refused(run: Path, tmp_path: Path) -> None:
    (tmp_path / "training.json").write_text('{"command": "grpo", "settings": {"model": "mini"}}', "utf-8")
    with pytest.raises(InputError, match="a folder of `skillfactory grpo`, which holds no texts to look at"):
        shown(tmp_path)
    with pytest.raises(InputError, match="there is no such folder"):
        shown(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="RUN is missing"):
        shown()
    with pytest.raises(ConfigError, match="--judge needs --output"):
        shown(run, judging=Judging("model"))


def test_the_command_prints_a_table_or_json(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["skills", f"mine={run}"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"^mine +two +80 ", printed, re.MULTILINE)
    assert main(["skills", f"mine={run}", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["runs"][0]["run"] == "mine"


def serve(body: Body, time: int) -> Fault:
    """A judge that finds verifying wherever a text says check, and chatters on what is short."""
    text = body["messages"][1]["content"].split("<text>\n")[1].split("\n</text>")[0]
    if len(text) < 60:
        return Fault(body=answer("Sure, happy to help!"))
    verify = "yes" if "check" in text else "no"
    return Fault(body=answer(f"verify: {verify}\nretry: no\nbacktrack: no\nsubgoals: no"))


def test_a_judge_reads_the_first_texts_of_each_group_once_and_its_agreement_is_told(tmp_path: Path) -> None:
    cases = json.loads(CASES.read_text("utf-8"))
    path = tmp_path / "cases.jsonl"
    path.write_text("".join(json.dumps(case) + "\n" for case in cases), "utf-8")
    with TinyServer(serve) as server:
        config = SkillsConfig(
            (str(path),),
            labels="skills",
            output=tmp_path / "out",
            judging=Judging("tiny", judge_texts=100),
            generation=Answering("openai", {"base_url": server.url, "backoff": 0.01}),
        )
        first = inventory(config).numbers
        asked = len(server.bodies)
        assert inventory(config).numbers == first
        assert len(server.bodies) == asked == 100
        (tmp_path / "rules.yaml").write_text("verify: [{name: every, says: [the]}]\n", "utf-8")
        other = inventory(replace(config, rules=tmp_path / "rules.yaml")).numbers
        assert len(server.bodies) == asked  # other rules are held against the same opinions
        assert {(row["skill"], *row["raters"]) for row in other["agreement"]} >= {("verify", "judge", "rules")}
        assert inventory(config).numbers == first
    short = sum(len(case["text"]) < 60 for case in cases[:100])
    assert first["judge"]["texts"] == 100
    assert first["judge"]["dropped"] == {"other_words": short}
    rows = {(row["skill"], *row["raters"]): row for row in first["agreement"]}
    own = [("check" in case["text"], "verify" in case["skills"]) for case in cases[:100] if len(case["text"]) >= 60]
    found = rows["verify", "judge", "labels"]
    assert [found[name] for name in ("both", "first", "second", "neither")] == [
        own.count(pair) for pair in ((True, True), (True, False), (False, True), (False, False))
    ]
    assert rows["verify", "judge", "rules"]["n"] == 100 - short
    assert rows["retry", "judge", "rules"]["kappa"]["value"] == 0.0  # who always says no agrees by chance alone
    opinions = pq.read_table(tmp_path / "out" / JUDGE / "opinions" / "part-00000.parquet").to_pylist()
    assert all(row["reason"] or row["judge"] is not None for row in opinions)
