"""Laws of the numbers of a table: whose groups share a column, where intervals end, and what readers are told of tokens."""

import json
from pathlib import Path

import numpy as np
import pytest

from skillfactory.evaluation import NUMBERS
from skillfactory.gathering.scores import Judged, Row, accuracy, cell, comparison, groups_of, inference
from skillfactory.stats import Array, clustered_share, mean_of_shares

MEANS = ("first_right", "cut", "well_formed", "answers", "reflections", "f1_correct", "f1_incorrect")


def judged(
    folder: Path, names: str, right: int = 2, tokens: float = 100.0, retry: int = 0, about: dict[str, str] | None = None
) -> Judged:
    """An evaluation of groups of one kind, each of four questions asked once."""
    folder.mkdir()
    numbers = {"tokens": tokens, "responses": 4, **dict.fromkeys(MEANS)}
    groups = [
        {"name": name, "kind": "harder", "task": "t", "level": "3", "part": "test", **(about or {}), **numbers}
        for name in names
    ]
    kinds = [{"kind": "harder", "groups": [*names], **numbers}]
    (folder / NUMBERS).write_text(json.dumps({"groups": groups, "kinds": kinds, "retry": retry}), "utf-8")
    found = Judged(folder)
    found.__dict__["shares"] = {name: {f"{name}{n}": float(n < right) for n in range(4)} for name in names}
    return found


def row(name: str, found: Judged) -> Row:
    return Row(name, name, name, "eval", {0: found})


def test_a_kind_has_its_mean_in_whatever_order_suites_list_its_groups(tmp_path: Path) -> None:
    rows = [row("one", judged(tmp_path / "1", "ab")), row("other", judged(tmp_path / "2", "ba"))]
    columns = groups_of(rows)
    assert [*columns] == ["mean harder", "a", "b"]
    means = [cell(each, "mean harder", columns["mean harder"][1]) for each in rows]
    assert [mean.accuracy.value for mean in means if mean] == [0.5, 0.5]


@pytest.mark.parametrize(("field", "here", "there"), [("part", "dev", "test"), ("level", "3", "4"), ("task", "t", "u")])
def test_groups_that_only_share_a_name_have_columns_of_their_own(field: str, here: str, there: str, tmp_path: Path) -> None:
    rows = [
        row("one", judged(tmp_path / "1", "a", about={field: here})),
        row("other", judged(tmp_path / "2", "a", about={field: there})),
    ]
    columns = groups_of(rows)
    assert [*columns] == [f"a ({field} {here})", f"a ({field} {there})"]
    for place, name in enumerate(columns):
        groups = columns[name][1]
        assert [cell(each, name, groups) is not None for each in rows] == [place == 0, place == 1]
        assert comparison(rows[0], rows[1], name, groups) is None


@pytest.mark.parametrize("right", [0, 1, 3, 4])
def test_the_interval_of_a_share_ends_where_shares_do(right: int, tmp_path: Path) -> None:
    one = row("one", judged(tmp_path / "1", "a", right=right))
    found = cell(one, "a", groups_of([one])["a"][1])
    assert found is not None
    assert found.accuracy.low is not None
    assert found.accuracy.high is not None
    assert 0 <= found.accuracy.low <= right / 4 <= found.accuracy.high <= 1
    assert found.accuracy.low < found.accuracy.high


def test_an_arm_of_one_run_has_the_interval_of_its_evaluation() -> None:
    random = np.random.default_rng(3)
    groups: list[Array] = [random.binomial(4, share, (1, n)) / 4 for share, n in ((0.02, 150), (0.5, 33), (0.0, 60))]
    for tables in [*([table] for table in groups), groups]:
        assert accuracy(tables) == mean_of_shares([clustered_share(table[0]) for table in tables])


def covered(share: float, seeds: int, asked: int, luck: float) -> float:
    """How often the interval holds the truth, if questions differ in difficulty, and trainings by `luck` of the share."""
    random = np.random.default_rng(7)
    worlds, inside = 2000, 0
    ease = 0.6 * random.beta(share / 0.6, 1 - share / 0.6, (worlds, 1, asked))
    trained = 1 + luck * random.uniform(-1, 1, (worlds, seeds, 1))
    right = random.random((worlds, seeds, asked)) < ease * trained
    for world in right.astype(float):
        found = accuracy([world])
        assert found.low is not None
        assert found.high is not None
        inside += found.low <= share <= found.high
    return inside / worlds


@pytest.mark.parametrize(("share", "asked"), [(0.01, 300), (0.02, 300), (0.05, 300), (0.05, 100)])
@pytest.mark.parametrize(("seeds", "luck"), [(1, 0.0), (3, 0.5), (5, 0.5)])
def test_the_interval_of_a_small_share_covers_the_truth(share: float, asked: int, seeds: int, luck: float) -> None:
    assert 0.93 <= covered(share, seeds, asked, luck) <= 0.98


def test_the_interval_of_a_difference_may_be_below_0(tmp_path: Path) -> None:
    rows = [row("one", judged(tmp_path / "1", "a", right=1)), row("other", judged(tmp_path / "2", "a", right=2))]
    found = comparison(rows[0], rows[1], "a", groups_of(rows)["a"][1])
    assert found is not None
    assert found.difference.low is not None
    assert found.difference.low < -0.25


@pytest.mark.parametrize(
    ("retry", "tokens", "told"),
    [(8, 106, ["one and other take other numbers of tokens a response: a 100 and 106"]), (8, 104, []), (0, 200, [])],
)
def test_readers_are_told_where_retries_take_other_numbers_of_tokens(
    retry: int, tokens: float, told: list[str], tmp_path: Path
) -> None:
    rows = [row("one", judged(tmp_path / "1", "a")), row("other", judged(tmp_path / "2", "a", tokens=tokens, retry=retry))]
    groups = groups_of(rows)["a"][1]
    cells = [found for each in rows if (found := cell(each, "a", groups))]
    compared = [found for found in [comparison(rows[0], rows[1], "a", groups)] if found]
    assert list(inference(rows, cells, compared)) == told
