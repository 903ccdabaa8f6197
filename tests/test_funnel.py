"""Laws of accounts, progress and the messages that every stage shares."""

import pytest

from skillfactory.errors import ConfigError, require, unknown
from skillfactory.funnel import Funnel
from skillfactory.progress import Bars, Progress, Silent


def test_an_account_says_what_came_what_stayed_and_what_went_by_reason_the_largest_first() -> None:
    funnel = Funnel("build", "traces", 12_345, 12_300, {"b": 5, "a": 5, "c": 35})
    assert str(funnel) == "build: 12,345 traces = 12,300 kept + 45 dropped (c 35, a 5, b 5)"
    assert str(Funnel("build", "traces", 1, 1)) == "build: 1 traces = 1 kept + 0 dropped"
    assert list(funnel.to_dict()["dropped"]) == ["c", "a", "b"]


def test_an_account_read_back_from_its_values_is_the_same() -> None:
    funnel = Funnel("build", "traces", 7, 4, {"a": 1, "b": 2})
    assert Funnel(**funnel.to_dict()).to_dict() == funnel.to_dict()


def test_an_account_that_does_not_add_up_is_a_bug() -> None:
    with pytest.raises(AssertionError, match="build: the account doesn't add up"):
        Funnel("build", "traces", 7, 4, {"a": 2})


def test_an_unknown_name_is_answered_with_the_nearest_one_and_all_there_are() -> None:
    assert str(unknown("layout", "papre", ["random", "paper"])) == (
        "unknown layout 'papre'; did you mean 'paper'? (known: paper, random)"
    )
    assert str(unknown("layout", "xyz", ["random", "paper"])) == "unknown layout 'xyz' (known: paper, random)"


def test_a_missing_library_is_answered_with_the_install_that_brings_it() -> None:
    assert require("json", "hf").__name__ == "json"
    with pytest.raises(
        ConfigError, match=r"no_such_library can't be imported .*pip install '\.\[hf\]' in the clone of SkillFactory$"
    ):
        require("no_such_library", "hf")


@pytest.mark.parametrize("progress", [Silent(), Bars()], ids=["silent", "bars"])
def test_progress_may_be_begun_twice_and_ended_twice(progress: Progress, capsys: pytest.CaptureFixture[str]) -> None:
    progress.end()
    progress.begin("one", "rows", 2)
    progress.advance(2, "a note")
    progress.begin("two", "rows")
    progress.advance()
    progress.end()
    progress.end()
    out, err = capsys.readouterr()
    assert out == ""
    assert isinstance(progress, Silent) == (err == "")
    if err:
        assert "one: 100%" in err
        assert "two: 1 rows" in err
