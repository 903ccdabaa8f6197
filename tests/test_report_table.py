"""Laws of a study's tables of text: aligned, complete, and safe in Markdown and in a terminal."""

from dataclasses import replace

from studies import study

from skillfactory.report import Arm, Cell, Estimate, Group, Stage, Study, tables
from skillfactory.report.table import costs, differences, results, skills


def blocks(text: str) -> list[list[list[str]]]:
    """The tables of a text, as rows of stripped cells."""
    return [
        [[cell.strip() for cell in line.strip("|").split("|")] for line in block.split("\n")] for block in text.split("\n\n")
    ]


def test_every_line_of_a_table_is_as_wide_as_the_others_and_no_wider_than_asked() -> None:
    for width in (70, 120, 400):
        for block in results(study(), width).split("\n\n"):
            widths = {len(line) for line in block.split("\n")}
            assert len(widths) == 1
            assert max(widths) <= width
    for block in tables(study()).split("\n\n"):
        assert len({len(line) for line in block.split("\n")}) == 1


def test_each_arm_and_group_has_its_number_once() -> None:
    made = study()
    found = {}
    for head, _, *rows in blocks(results(made, 80)):
        for row in rows:
            for group, cell in zip(head[1:], row[1:], strict=True):
                assert (row[0], group) not in found
                found[row[0], group] = cell
    assert len(found) == len(made.arms) * len(made.groups)
    assert found["RL only", "Countdown, 4 numbers"] == "25.0 (21.0–30.0)"


def test_costs_are_means_of_runs_and_the_sum_of_all() -> None:
    rows = blocks(costs(study()))[0]
    assert rows[-1][:4] == ["all, summed", "", "11", "23 min 20 s"]
    assert [row[2] for row in rows if row[0] == "GRPO"] == ["3", "3"]
    partly = (Stage("SFT", (), 0, 10.0), Stage("SFT", (), 1, None))
    assert blocks(costs(replace(study(), stages=partly)))[0][2][2:4] == ["2", "10 s"]  # what isn't known is no zero


def test_differences_say_what_their_interval_says() -> None:
    head, _, *rows = blocks(differences(study()))[0]
    assert head[2:5] == ["difference, points", "ratio", "difference is"]
    assert len(rows) == len(study().comparisons)
    assert all((row[4] == "above zero") == row[2].split("(")[1].startswith("+") for row in rows)


def test_what_a_study_does_not_have_is_left_out() -> None:
    assert tables(Study("t", "", (), ())) == ""
    only = Study("t", "", (Arm("a", "A"),), (Group("g", "G"),), (Cell("a", "g", Estimate(0.5)),))
    assert tables(only) == results(only)
    assert "50.0" in results(only)
    assert "–" in results(Study("t", "", (Arm("a", "A"),), (Group("g", "G"),), (Cell("a", "g"),)))
    assert skills(only) == ""


def test_a_label_can_not_leave_its_cell_or_write_over_the_terminal() -> None:
    hostile = "a|b\nc\x1b[2J\u202e\\"
    made = Study("t", "", (Arm("a", hostile), Arm("b", "汉字")), (Group("g", hostile),), (Cell("a", "g", Estimate(0.5)),))
    lines = results(made).split("\n")
    assert len(lines) == 4
    assert "a\\|b c⟨U+001B⟩[2J⟨U+202E⟩\\\\" in lines[2]
    assert all(line.isprintable() for line in lines)
    assert len(lines[2]) - len(lines[3]) == 2  # two characters that are twice as wide
