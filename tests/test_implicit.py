"""Laws of rules for skills in plain words: what a pattern matches, what is found where, and how often the rules err."""

import json
import re
import time
from pathlib import Path

import pytest

from skillfactory.errors import ConfigError, InputError
from skillfactory.skills.implicit import MOST, SHIPPED, Rules, implicit, load_rules, shown_skills
from skillfactory.skills.phrases import compiled, plain, sentence

HERE = Path(__file__).parent
CASES = json.loads((HERE / "cases" / "implicit.json").read_text("utf-8"))
DOCS = HERE.parent / "docs" / "skill-usage.md"


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        ("let me check", "So LET  me\ncheck it", "LET  me\ncheck"),
        ("let me check", "outlet me check", None),
        ("let me check", "let me checkout", None),
        ("(check|verify) it", "we verify it", "verify it"),
        ("let me [just] check", "let me check", "let me check"),
        ("let me [just] check", "let me just check", "let me just check"),
        ("try ... instead", "try the other one instead", "try the other one instead"),
        ("try ... instead", "try it. Do this instead", None),  # not across a sentence
        ("try ... instead", "try one two three four five instead", None),  # four words at most
        ("^wait,", "I wait, you wait,", None),
        ("^wait,", "Yes. Wait, no", "Wait,"),
        ("let's go", "let’s go", "let’s go"),
        ("try #", "try -3.5 now", "try -3.5"),
        ("try #", "try x1", None),
        ("a.b", "a.b axb", "a.b"),  # a full stop is a full stop
    ],
)
def test_a_pattern_matches_what_it_says(pattern: str, text: str, found: str | None) -> None:
    match = re.search(compiled(pattern).expression, plain(text))
    assert (text[match.start() : match.end()] if match else None) == found


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("let (me check", "')' is missing"),
        ("let me) check", "')' closes nothing"),
        ("let me ...", "words are missing"),
        ("[let me]", "words are missing"),
        ("", "words are missing"),
        ("... instead", "begins with words"),
        ("x" * 601, "may have 600 characters"),
    ],
)
def test_a_pattern_that_makes_no_sense_is_refused_with_the_reason(pattern: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        compiled(pattern)


def test_plain_text_keeps_every_character_in_its_place() -> None:
    text = "İ’M ẞURE Ω"
    assert len(plain(text)) == len(text)
    assert plain(text)[1:3] == "'m"


def test_a_sentence_ends_at_its_mark_and_not_at_a_decimal_point() -> None:
    text = "It is 3.5. Let me check it. Fine"
    start = text.index("check")
    low, high = sentence(text, start, start + 5)
    assert text[low:high].strip() == "Let me check it."
    assert sentence("a" * 5000, 2500, 2501, reach=100) == (2400, 2601)


def test_a_finding_names_its_rule_and_its_place() -> None:
    text = "12 * 3 = 36. Let me check this: 36 / 3 = 12. On second thought, no. Let me try again."
    found = implicit(text, load_rules())
    assert [(each.skill, text[each.start : each.end].lower()) for each in found] == [
        ("verify", "let me check"),
        ("backtrack", "on second thought"),
        ("retry", "let me try again"),
    ]
    assert [each.rule for each in found] == ["announced", "wait", "again"]


def test_a_skill_counts_once_in_a_sentence() -> None:
    assert shown_skills("Let me check it, let me verify it.", load_rules())["verify"] == 1
    assert shown_skills("Let me check it. Let me verify it.", load_rules())["verify"] == 2


def own(tmp_path: Path, text: str) -> Rules:
    path = tmp_path / "rules.yaml"
    path.write_text(text, "utf-8")
    return load_rules(path)


def test_a_guard_voids_a_match_in_its_own_sentence_alone(tmp_path: Path) -> None:
    rules = own(tmp_path, "ask:\n- {name: a, says: [could you], unless: [if]}\n")
    assert shown_skills("Could you say if it fits? Could you?", rules) == {"ask": 1}


def test_rules_of_a_file_of_the_users_replace_the_shipped_ones(tmp_path: Path) -> None:
    rules = own(tmp_path, "doubt:\n- {name: unsure, says: [not sure, '# percent sure']}\n")
    assert rules.skills == ("doubt",)
    found = implicit("I'm not sure. Or 80 percent sure. Let me check.", rules)
    assert [(each.start, each.end) for each in found] == [(4, 12), (17, 32)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "expected a mapping of skills"),
        ("Ask: [{name: a, says: [b]}]", "and 'Ask' hasn't"),
        ("ask: []", "ask: expected a list of at least one rule"),
        ("ask: [b]", "ask: rule 1: expected a mapping with name and says"),
        ("ask: [{says: [b]}]", "ask: rule 1: name: expected text"),
        ("ask: [{name: a}]", r"ask: rule 1 (a): says: expected a list of at least one pattern"),
        ("ask: [{name: a, say: [b]}]", "did you mean 'says'?"),
        ("ask: [{name: a, says: ['(b']}]", r"ask: rule 1 (a): says: ')' is missing in the pattern: (b"),
        ("ask: [{name: a, says: [b]}, {name: a, says: [c]}]", "two rules are called 'a'"),
        ("ask: [", "not a YAML file"),
    ],
)
def test_a_file_of_rules_with_a_fault_is_refused_by_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises((ConfigError, InputError), match=re.escape(message)) as error:
        own(tmp_path, text)
    assert str(tmp_path / "rules.yaml") in str(error.value)


def test_a_missing_file_of_rules_is_named() -> None:
    with pytest.raises(InputError, match=r"nowhere\.yaml: can't read the rules"):
        load_rules(Path("nowhere.yaml"))


def test_cases_are_enough_different_and_of_known_skills() -> None:
    assert len({case["text"] for case in CASES}) == len(CASES) >= 120
    assert {skill for case in CASES for skill in case["skills"]} == set(load_rules().skills)
    assert {case["part"] for case in CASES} == {"rules", "measure"}
    assert sum(not case["skills"] for case in CASES) > 40


@pytest.mark.parametrize("part", ["rules", "measure"])
def test_the_manual_states_how_often_the_rules_err(part: str) -> None:
    """Every skill's row of the manual holds the counts that the cases give, so it can't go stale."""
    rules, manual = load_rules(), DOCS.read_text("utf-8")
    for skill in rules.skills:
        right = found = meant = 0
        for case in CASES:
            if case["part"] == part:
                shows, labelled = shown_skills(case["text"], rules)[skill] > 0, skill in case["skills"]
                right, found, meant = right + (shows and labelled), found + shows, meant + labelled
        assert f"| {part} | {skill} | {right}/{found} | {right}/{meant} |" in manual
        assert right / found >= 0.8
        assert right / meant >= 0.7


@pytest.mark.parametrize(
    "piece",
    [
        "let me ",
        "so let's let's ",
        "i i i ",
        "wait, ",
        "\n",
        "1,",
        " ",
        "(",
        "x" * 29 + " ",
        "no. ",
        "try a b c d ",
        "ı",
        "\x00",
    ],
)
def test_hostile_text_takes_time_in_proportion_to_its_length(piece: str) -> None:
    rules = load_rules()
    started = time.process_time()
    found = implicit(piece * (50_000 // len(piece)), rules)
    assert time.process_time() - started < 2
    assert len(found) <= MOST * len(rules.skills)


def test_findings_of_a_text_have_a_bound() -> None:
    assert shown_skills("Let me check. " * (MOST + 50), load_rules())["verify"] == MOST


def test_the_shipped_rules_are_part_of_the_package() -> None:
    assert f"skills/*{Path(SHIPPED).suffix}" in (HERE.parent / "pyproject.toml").read_text("utf-8")
