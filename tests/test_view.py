"""Laws of looking at runs: filters find what a look at the tables finds, pages cover every row once, links lead both ways."""

import html
import json
import os
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import copytree
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from looking import asked, built, curated, evaluated, shown
from test_run import contents

from skillfactory import budgeting, intervention
from skillfactory.errors import InputError
from skillfactory.gathering.pages import gathered
from skillfactory.markup import final_answer, parse
from skillfactory.outputs import outputs
from skillfactory.progress import Silent
from skillfactory.records import Check, Kind, Question
from skillfactory.seeds import digest
from skillfactory.tasks import resolve
from skillfactory.traces import WITH_SKILLS
from skillfactory.view.both import both_page, pair
from skillfactory.view.library import Library
from skillfactory.view.marks import marks
from skillfactory.view.search import Wanted, choices, count, page
from skillfactory.view.server import Server
from skillfactory.view.tables import FACETS, Table

Row = Mapping[str, Any]
SOURCES = {"question": 0, "attempt": 0, "reflection": 0, "drop": 0, "trace": 1, "response": 2}  # table: run


@dataclass(frozen=True)
class World:
    """A curated run, traces from it, two evaluations, and a server that shows them in this order."""

    folder: Path
    library: Library
    server: Server
    rows: Mapping[str, list[dict[str, str]]]  # table: id, text and facets of each row, made here from the files


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world")
    run = curated(folder / "run")
    made = [run, built(run, folder / "traces"), evaluated(folder / "first"), evaluated(folder / "second", 1)]
    with shown(folder / "cache", *map(str, made)) as server:
        yield World(folder, server.library, server, expected(folder))


def read(folder: Path) -> list[dict[str, Any]]:
    return [row for part in sorted(folder.glob("*.parquet")) for row in pq.read_table(part).to_pylist()]


def expected(folder: Path) -> dict[str, list[dict[str, str]]]:
    """What each table holds, by another way than the index's."""
    run, traces, first = folder / "run", folder / "traces", folder / "first"
    questions = {row["id"]: row for row in read(run / "questions")}
    attempts = {row["id"]: row for row in read(run / "attempts")}
    found: dict[str, list[dict[str, str]]] = {name: [] for name in SOURCES}
    for row in questions.values():
        found["question"].append(facets(row, row, row["prompt"]))
    for row in attempts.values():
        found["attempt"].append(facets(row, questions[row["question_id"]], row["text"], form=row["variant"]))
    for row in read(run / "reflections"):
        of = attempts[row["attempt_id"]]
        asked = questions[of["question_id"]]
        found["reflection"].append(facets(row, asked, row["text"], form=of["variant"], check=of["check"]))
    for row in read(run / "drops"):
        question = next(question for id, question in questions.items() if row["subject_id"].startswith(id))
        found["drop"].append(facets(row | {"id": row["subject_id"]}, question, row["detail"], form=row["stage"]))
    for row in read(traces / "traces"):
        text = row["conversations"][-1]["content"]
        right = [segment["right"] for segment in row["segments"] if segment["kind"] == "attempt"][-1]
        more = {"form": row["layout"], "verdict": last_verdict(text), "check": "right" if right else "wrong"}
        found["trace"].append(facets({"id": row["trace_id"]}, questions[row["question_id"]], text, **more))
    asked_there = {row["id"]: row for row in read(first / "questions")}
    for row in read(first / "responses"):
        more = {"form": row["group"], "verdict": last_verdict(row["text"])}
        found["response"].append(facets(row, asked_there[row["question_id"]], row["text"], **more))
    return found


def facets(row: Row, question: Row, text: str, **more: str) -> dict[str, str]:
    own = {name: str(row.get(name) or "") for name in FACETS}
    return {**own, "task": question["task"], "level": question["level"], **more, "id": row["id"], "text": text}


def last_verdict(text: str) -> str:
    """What the last reflection says; the scripted models write every tag in order."""
    blocks = re.findall(r"<reflect>\n(.*?)\n</reflect>", text, re.DOTALL)
    found = re.search(r"<verdict>(\w+)</verdict>$", blocks[-1]) if blocks else None
    word = found[1].lower() if found else "absent"
    return "" if not blocks else word if word in ("correct", "incorrect") else "absent"


def walked(world: World, table: str, **query: str) -> list[int]:
    """The numbers of the rows in all pages of a list, as a reader comes to them by its links."""
    numbers: list[int] = []
    path = f"/{SOURCES[table]}/{table}"
    found = asked(world.server, path, **query)
    while True:
        assert found.status == 200
        numbers += map(int, re.findall(rf'<td><a href="{path}/(\d+)[?"]', found.text))
        onward = re.search(r'<a href="([^"]*)">later', found.text)
        if onward is None:
            return numbers
        found = asked(world.server, html.unescape(onward[1]))


def matching(world: World, table: str, **query: str) -> list[int]:
    """The same by a look at every row."""
    text = query.pop("text", "").casefold()
    rows = enumerate(world.rows[table], 1)
    return [n for n, row in rows if text in row["text"].casefold() and all(row[key] == query[key] for key in query)]


@pytest.mark.parametrize("table", SOURCES)
def test_every_choice_of_a_filter_finds_what_a_look_at_every_row_finds(world: World, table: str) -> None:
    index = world.library.runs[SOURCES[table]].index
    assert walked(world, table) == list(range(1, len(world.rows[table]) + 1))
    for name in FACETS:
        counts = Counter(row[name] for row in world.rows[table])
        told = choices(index, Wanted(Table(table), {})).get(name, {})
        assert told == (counts if len(counts) > 1 else {})
        for value in counts:
            assert walked(world, table, **{name: value or "(none)"}) == matching(world, table, **{name: value})


@pytest.mark.parametrize("text", ["let me see", "STRASSE", "a\x00b", "</p></div>", '" onmouse', "1", "0.", "nowhere", "%", "_"])
def test_texts_are_found_by_any_part_of_them_whatever_it_is(world: World, text: str) -> None:
    for table in SOURCES:
        found = matching(world, table, text=text)
        assert walked(world, table, text=text) == found
        assert walked(world, table, text=text, task="multiplication", check="right") == matching(
            world, table, text=text, task="multiplication", check="right"
        )
    assert any(matching(world, table, text=text) for table in SOURCES) == (text != "nowhere")


def test_filters_narrow_together_and_a_choice_counts_what_it_would_leave(world: World) -> None:
    index = world.library.runs[0].index
    asked_for = {"form": "alternatively", "check": "wrong", "verdict": "correct"}
    found = matching(world, "reflection", **asked_for)
    assert found == walked(world, "reflection", **asked_for)
    assert 0 < len(found) == count(index, Wanted(Table.REFLECTION, asked_for)) < 100
    told = choices(index, Wanted(Table.REFLECTION, asked_for))["check"]
    assert told["right"] == len(matching(world, "reflection", **asked_for | {"check": "right"}))


def test_what_no_row_has_finds_nothing_and_breaks_nothing(world: World) -> None:
    assert walked(world, "attempt", check="'; DROP TABLE items; --") == []
    assert walked(world, "attempt", text='" OR grams MATCH "') == []
    assert walked(world, "attempt", nonsense="1", after="-1") == list(range(1, 121))


@pytest.mark.parametrize("text", ["", "let me see", "10"])
@pytest.mark.parametrize("seconds", [10.0, 0.0])
@pytest.mark.parametrize("size", [1, 7, 500])
def test_pages_cover_every_row_once_in_both_directions_also_when_the_time_is_over(
    world: World, text: str, seconds: float, size: int
) -> None:
    index = world.library.runs[0].index
    wanted = Wanted(Table.REFLECTION, {"check": "wrong"}, text)
    after: int | None = 0
    forwards: list[int] = []
    while after is not None:
        found = page(index, wanted, size, after=after, seconds=seconds)
        forwards += [item.number for item in found.items]
        assert len(forwards) < 1_000, "a page leads back to itself"
        after = found.after
    before: int | None = 10_000
    backwards: list[int] = []
    while before is not None:
        found = page(index, wanted, size, before=before, seconds=seconds)
        backwards = [item.number for item in found.items] + backwards
        assert len(backwards) < 1_000, "a page leads back to itself"
        before = found.before
    assert forwards == backwards == matching(world, "reflection", check="wrong", text=text) != []


def test_without_the_index_of_texts_the_same_is_found(world: World, tmp_path: Path) -> None:
    """An SQLite without trigrams leaves it out; here it is taken out."""
    run = str(world.folder / "run")
    Library.open([run], Silent(), tmp_path).runs[0].index.close()
    with sqlite3.connect(next(tmp_path.glob("*.sqlite"))) as connection:
        connection.executescript("DROP TABLE grams; UPDATE meta SET value = '' WHERE name = 'searchable'")
    index = Library.open([run], Silent(), tmp_path).runs[0].index
    assert not index.searchable
    found = page(index, Wanted(Table.ATTEMPT, {}, "Let me see"), 500, seconds=10)
    assert [item.number for item in found.items] == matching(world, "attempt", text="let me see")


def test_a_trace_leads_to_its_attempts_and_each_of_them_back(world: World) -> None:
    attempts = {row["id"]: n for n, row in enumerate(world.rows["attempt"], 1)}
    uses: Counter[str] = Counter()
    for n, row in enumerate(read(world.folder / "traces" / "traces"), 1):
        found = asked(world.server, f"/1/trace/{n}").text
        assert re.findall(r'href="/0/attempt/(\d+)"', found) == [str(attempts[id]) for id in row["attempt_ids"]]
        uses.update(set(row["attempt_ids"]))
        for id in row["attempt_ids"]:
            assert f'href="/1/trace/{n}"' in asked(world.server, f"/0/attempt/{attempts[id]}").text
    for id, n in attempts.items():
        assert (f"In {uses[id]} traces" if uses[id] else "It is in no trace") in asked(world.server, f"/0/attempt/{n}").text


def test_a_response_leads_to_its_question_and_to_its_other_samples(world: World) -> None:
    questions = {row["id"]: n for n, row in enumerate(read(world.folder / "first" / "questions"), 1)}
    rows = read(world.folder / "first" / "responses")
    for n, row in enumerate(rows, 1):
        found = asked(world.server, f"/2/response/{n}").text
        assert f'href="/2/question/{questions[row["question_id"]]}"' in found
        others = {k for k, other in enumerate(rows, 1) if other["question_id"] == row["question_id"] and k != n}
        listed = found.partition("Other samples of this question")[2]
        assert set(map(int, re.findall(r'href="/2/response/(\d+)"', listed))) == others


def test_two_runs_stand_side_by_side_question_by_question(world: World) -> None:
    rights: dict[str, list[float]] = {}
    for name in ("first", "second"):
        rows = read(world.folder / name / "responses")
        for id in {row["question_id"] for row in rows}:
            found = [row["check"] == "right" for row in rows if row["question_id"] == id]
            rights.setdefault(id, []).append(sum(found) / len(found))
    for show, sign in {"": (-1, 0, 1), "first": (1,), "second": (-1,), "differ": (-1, 1)}.items():
        listed = asked(world.server, "/both", first="2", second="3", show=show).text
        fitting = {id for id, (first, second) in rights.items() if (first > second) - (first < second) in sign}
        assert set(re.findall(r'question\?id=([\w-]+)[&"]', listed)) == fitting
    id = next(iter(rights))
    page_of_both = asked(world.server, "/both/2/3/question", id=id).text
    for run, name in ((2, "first"), (3, "second")):
        own = {n for n, row in enumerate(read(world.folder / name / "responses"), 1) if row["question_id"] == id}
        assert set(map(int, re.findall(rf'href="/{run}/response/(\d+)"', page_of_both))) == own
    assert asked(world.server, "/both/2/3/question", id="none").status == 404
    assert asked(world.server, "/both/0/2").status == 404, "attempts and responses are no pair"


@pytest.mark.parametrize("show", ["", "first", "second", "differ"])
def test_side_by_side_leads_from_question_to_question_of_its_list_and_back_to_their_place(
    world: World, show: str, tmp_path: Path
) -> None:
    """The second run lacks every third question of the first, and the very last one."""
    second = tmp_path / "second"
    copytree(world.folder / "second", second)
    ids = list(dict.fromkeys(row["question_id"] for row in read(world.folder / "first" / "responses")))
    gone = {*ids[::3], ids[-1]}
    for part in (second / "responses").glob("*.parquet"):
        rows = pq.read_table(part)
        pq.write_table(rows.filter(pa.array([row["question_id"] not in gone for row in rows.to_pylist()])), part)
    with shown(tmp_path / "cache", str(world.folder / "first"), str(second)) as server:
        page_of_both = asked(server, "/both/0/1", **({"show": show} if show else {})).text
        listed = re.findall(r'<td class="words"><a href="([^"]*)">', page_of_both)
        assert len(listed) > 1
        for label, way in (("next question ›", listed), ("‹ previous question", listed[::-1])):
            seen, onward = [], way[0]
            while onward:
                found = asked(server, html.unescape(onward))
                assert found.status == 200
                seen.append(onward)
                back = re.search(r'<a href="([^"]*)">Side by side</a>', found.text)
                assert back
                there = asked(server, html.unescape(back[1])).text
                assert next(iter(re.findall(r'<td class="words"><a href="([^"]*)">', there))) == onward
                assert f'value="{show}" selected' in there
                further = re.search(rf'<a href="([^"]*)">{label}</a>', found.text)
                onward = further[1] if further else ""
            assert seen == way


def test_two_runs_of_100_000_questions_with_few_in_common_are_looked_through_in_bounded_time(
    world: World, tmp_path: Path
) -> None:
    runs = [str(world.folder / name) for name in ("first", "second")]
    Library.open(runs, Silent(), tmp_path)
    common = {id for (id,) in world.library.runs[2].index.rows("SELECT id FROM asked")}
    for number, path in enumerate(sorted(tmp_path.glob("*.sqlite"))):
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE asked SET q = q + 100000")
            connection.execute("UPDATE tally SET q = q + 100000")
            connection.execute(
                "WITH RECURSIVE each(q) AS (SELECT 1 UNION ALL SELECT q + 1 FROM each WHERE q < 100000) "
                "INSERT INTO tally SELECT 'response', q, ? || q, 1, 2 FROM each",
                (f"only in {number}/",),
            )
    library = Library.open(runs, Silent(), tmp_path)
    these = pair(library, library.runs[0], library.runs[1])
    assert these
    query: dict[str, str] = {}
    found: set[str] = set()
    stops = 0
    for _ in range(100):
        text = both_page(library, these, query, seconds=0)
        found |= set(re.findall(r'question\?id=([\w-]+)[&"]', text))
        assert "No such question here" not in text
        stops += "Looked at" in text
        onward = re.search(r'after=(\d+)">later', text)
        if onward is None:
            break
        if not found:
            assert f"Looked at {int(onward[1]):,} of 100,0" in text
        query = {"after": onward[1]}
    assert found == common
    assert 0 < stops < 50, "even without any time a page looks at thousands of questions"


def test_attempts_in_a_response_are_marked_as_the_tasks_verifier_marks_them(world: World) -> None:
    run = world.library.runs[2]
    seen: Counter[bool | None] = Counter()
    for n in range(1, run.index.counts[Table.RESPONSE] + 1):
        item = run.index.item(Table.RESPONSE.base + n)
        assert item is not None
        question = run.index.found(item.question, Table.QUESTION)
        assert question is not None
        text = run.index.text(Table.RESPONSE.base + n)
        blocks = [text[part.start : part.end] for part in parse(text).parts if part.kind is Kind.ATTEMPT]
        truth = [int(final_answer(block)[0] or 0) == int(question.answer or 0) for block in blocks]
        assert list(marks(item, text, question)) == truth
        seen.update(truth)
    assert seen[True] > 5
    assert seen[False] > 5


def test_a_response_is_marked_in_the_viewer_as_in_a_report(world: World, tmp_path: Path) -> None:
    """Every response begins with an attempt that gives no answer: it is neither right nor wrong, it wasn't checked."""
    run = tmp_path / "run"
    copytree(world.folder / "first", run)
    for part in (run / "responses").glob("*.parquet"):
        rows = pq.read_table(part)
        texts = [text.replace("<think>", "<think>\n<sample>\nHm.\n</sample>", 1) for text in rows["text"].to_pylist()]
        pq.write_table(rows.set_column(rows.schema.names.index("text"), "text", pa.array(texts)), part)
    index = Library.open([str(run)], Silent(), tmp_path / "cache").runs[0].index
    study = gathered([str(run)], outputs([str(run)]))
    examples = {example.name: example for selection in study.selections for example in selection.examples}
    assert examples
    for name, example in examples.items():
        item = index.found(name, Table.RESPONSE)
        assert item is not None
        found = marks(item, index.text(item.table.base + item.number), index.found(item.question, Table.QUESTION))
        assert found == example.attempts
        assert found[0] is None


def test_an_attempt_is_right_as_its_verifier_reads_it_not_as_it_looks_without_spaces(world: World) -> None:
    task = resolve("letter_countdown")
    made = next(iter(task.questions(1, "4", 0, "eval")))
    assert isinstance(made, Question)
    response, asked_for = (world.library.runs[2].index.item(table.base + 1) for table in (Table.RESPONSE, Table.QUESTION))
    assert response
    assert asked_for
    more = {"facts": json.dumps(made.facts)}
    question = replace(asked_for, facets={**asked_for.facets, "task": task.name}, answer=made.answer, more=more)
    for answer in (made.answer, " ".join(made.answer), made.answer[:-1], f" {made.answer}\n"):
        text = f"<think><sample><answer>{answer}</answer></sample></think>"
        truth = task.check(made, answer.strip()).check is Check.RIGHT
        assert marks(replace(response, answer=None), text, question) == (truth,)
    assert task.check(made, " ".join(made.answer)).check is not Check.RIGHT


def test_blocks_of_ones_own_skill_are_shown_as_such(world: World, tmp_path: Path) -> None:
    """In an evaluation that counted it, and in traces that show it; others take its tags for words."""
    text = "<think><mine>My plan.</mine><sample><answer>6</answer></sample></think><answer>6</answer>"
    responses, traces = tmp_path / "responses", tmp_path / "traces"
    copytree(world.folder / "first", responses)
    copytree(world.folder / "traces", traces)
    for part in (responses / "responses").glob("*.parquet"):
        rows = [row | {"text": text, "blocks": [("mine", 1)]} for row in pq.read_table(part).to_pylist()]
        kind = pa.map_(pa.string(), pa.int64())
        schema = pq.read_schema(part)
        at = schema.get_field_index("blocks")
        schema = schema.append(pa.field("blocks", kind)) if at < 0 else schema
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), part)
    begin = text.index("My plan")
    segment = {"kind": "skill", "start": begin, "end": begin + 8, "skill": "mine"}
    for part in (traces / "traces").glob("*.parquet"):
        rows = [
            row | {"conversations": [*row["conversations"][:-1], row["conversations"][-1] | {"content": text}]}
            | {"segments": [segment, *row["segments"]]}
            for row in pq.read_table(part).to_pylist()
        ]  # fmt: skip
        pq.write_table(pa.Table.from_pylist(rows, schema=WITH_SKILLS), part)
    with shown(tmp_path / "cache", str(responses), str(traces)) as server:
        for path in ("/0/response/1", "/1/trace/1"):
            found = asked(server, path).text
            assert "Skill: mine" in found
            assert "Joining phrase</p>" not in found
            assert found.index("What the colours and borders mean") < found.index("Skill: mine"), "the key stands first"


def test_a_page_never_imports_what_a_run_names_as_its_task(world: World) -> None:
    item = next(item for n in range(1, 9) if (item := world.library.runs[2].index.item(Table.RESPONSE.base + n)))
    named = "this.module.would.be.imported:Task"
    question = replace(item, facets={**item.facets, "task": named}, answer=None)
    text = "<think><sample><answer>1</answer></sample></think><answer>2</answer>"
    assert marks(replace(item, answer="2"), text, question) == (None,)
    with pytest.raises(Exception, match="imported"):
        resolve(named)


def test_a_run_is_only_read_and_its_index_is_made_anew_when_it_has_changed(world: World, tmp_path: Path) -> None:
    run, cache = tmp_path / "run", tmp_path / "cache"
    copytree(world.folder / "run", run)
    before = contents(run)
    Library.open([str(run)], Silent(), cache)
    assert contents(run) == before
    (index,) = cache.glob("*.sqlite")
    first = index.stat().st_ino
    Library.open([str(run)], Silent(), cache)
    assert index.stat().st_ino == first, "nothing has changed: the index is used again"
    part = next((run / "attempts").glob("*.parquet"))
    pq.write_table(pq.read_table(part).slice(5), part)
    library = Library.open([str(run)], Silent(), cache)
    assert library.runs[0].index.counts[Table.ATTEMPT] == len(world.rows["attempt"]) - 5
    index.write_bytes(b"not an index")
    assert Library.open([str(run)], Silent(), cache).runs[0].index.counts[Table.ATTEMPT] == len(world.rows["attempt"]) - 5
    assert [path.name for path in cache.iterdir()] == [index.name]
    os.utime(index, (0, 0))
    Library.open([str(world.folder / "first")], Silent(), cache)
    assert not index.exists(), "an index that nobody has opened for a month is deleted"


def test_traces_find_their_run_where_both_were_moved_and_say_so_where_it_is_gone(world: World, tmp_path: Path) -> None:
    for name in ("run", "traces"):
        copytree(world.folder / name, tmp_path / "moved" / name)
    library = Library.open([str(tmp_path / "moved" / "traces")], Silent(), tmp_path / "cache")
    assert [run.output.path.name for run in library.runs] == ["traces", "run"]
    assert library.runs[0].sources == (1,)
    assert library.runs[1].output.path == (world.folder / "run").resolve(), "the path that the build names comes first"
    build_json = tmp_path / "moved" / "traces" / "build.json"
    build_json.write_text(build_json.read_text("utf-8").replace(str(world.folder), "/not/there"), "utf-8")
    library = Library.open([str(tmp_path / "moved" / "traces")], Silent(), tmp_path / "cache")
    assert library.runs[1].output.path == tmp_path / "moved" / "run"
    (tmp_path / "moved" / "run").rename(tmp_path / "moved" / "elsewhere")
    with shown(tmp_path / "cache", str(tmp_path / "moved" / "traces")) as server:
        assert "Built from /not/there/run: not there" in asked(server, "/0/trace/1").text


def test_a_table_that_cannot_be_read_is_named(world: World, tmp_path: Path) -> None:
    run = tmp_path / "run"
    copytree(world.folder / "run", run)
    part = next((run / "attempts").glob("*.parquet"))
    pq.write_table(pq.read_table(part).drop_columns(["text"]), part)
    with pytest.raises(InputError, match=rf"{part}: a column is missing .*'text'"):
        Library.open([str(run)], Silent(), tmp_path / "cache")
    part.write_bytes(b"no table")
    with pytest.raises(InputError, match=rf"{part}: can't be read as Parquet"):
        Library.open([str(run)], Silent(), tmp_path / "cache")
    for folder in ("questions", "attempts", "reflections", "drops"):
        for part in (run / folder).glob("*"):
            part.unlink()
    with pytest.raises(InputError, match="nothing to look at here; expected runs of"):
        Library.open([str(run)], Silent(), tmp_path / "cache")


def test_an_index_that_cannot_be_written_is_named_with_what_to_do(world: World, tmp_path: Path) -> None:
    run = world.folder / "run"
    (tmp_path / f"{digest(str(run.resolve()))}.sqlite.{os.getpid()}").mkdir()
    with pytest.raises(InputError, match=r"the index can't be written \(.*\); choose another folder with --cache"):
        Library.open([str(run)], Silent(), tmp_path)


@pytest.mark.parametrize("schemas", [budgeting.SCHEMAS, intervention.SCHEMAS], ids=["budget", "intervene"])
def test_runs_of_budget_and_intervene_are_shown_too(schemas: Mapping[str, pa.Schema], tmp_path: Path) -> None:
    for name, schema in schemas.items():
        (tmp_path / name).mkdir()
        values = {field.name: ["7" if pa.types.is_string(field.type) else 7] for field in schema}
        flags = {field.name: [True] for field in schema if pa.types.is_boolean(field.type)}
        pq.write_table(pa.table(values | flags, schema=schema), tmp_path / name / "part-0.parquet")
    command = "budget" if "responses" in schemas else "intervene"
    (tmp_path / "run.json").write_text(f'{{"command": "{command}"}}', "utf-8")
    with shown(tmp_path / "cache", str(tmp_path)) as server:
        assert {*server.library.runs[0].index.counts} >= {Table.RESPONSE, Table.DROP}
        found = asked(server, "/0/response/1").text
        assert ("7, round 7" if command == "budget" else "7/7/7") in found
        assert asked(server, "/0/response").text.count("<tr>") == 2


def test_bytes_that_are_no_text_are_shown_as_replaced(world: World, tmp_path: Path) -> None:
    run = tmp_path / "run"
    copytree(world.folder / "run", run)
    part = next((run / "attempts").glob("*.parquet"))
    table = pq.read_table(part)
    broken = pa.array([b"\xed\xa0\x80 lone \xff"] * len(table), pa.binary()).view(pa.string())
    pq.write_table(table.set_column(table.schema.names.index("text"), "text", broken), part)
    index = Library.open([str(run)], Silent(), tmp_path / "cache").runs[0].index
    assert "lone" in index.text(Table.ATTEMPT.base + 1)
    assert "\ufffd" in index.text(Table.ATTEMPT.base + 1)
