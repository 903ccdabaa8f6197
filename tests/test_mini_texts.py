"""Laws of the texts that the embedded base model learns from."""

import re
from collections import Counter
from random import Random

import pytest

from skillfactory.markup import final_answer
from skillfactory.mini import countdown
from skillfactory.mini.replay import row_of
from skillfactory.mini.texts import Text, Writer, contexts
from skillfactory.mini.tokens import END, START
from skillfactory.mini.walks import solution, worth
from skillfactory.records import Check
from skillfactory.seeds import rng
from skillfactory.tasks.countdown import Countdown
from skillfactory.tasks.generated import split_of

ROOM = 1000
_ASKED = re.compile(r"Make (\d+) from (?:some of )?(\d+(?: \d+)*)\.")
_BLOCK = re.compile(r"<sample>\n(.*?)\n</sample>", re.DOTALL)


def chats(whole: str) -> list[tuple[str, str]]:
    """The user's and the assistant's turn of each chat in a context."""
    turns = [chat.partition(f"{START}assistant\n") for chat in whole.split(f"{START}user\n")[1:]]
    return [(asked.removesuffix(f"{END}\n"), said.removesuffix(f"{END}\n")) for asked, _, said in turns]


def attempts(asked: str, said: str) -> list[str]:
    """The texts in a chat that attempt something: blocks, an attempt to be reviewed, or the whole reply."""
    if "Attempt: " in asked:
        return [asked.partition("Attempt: ")[2]]
    return _BLOCK.findall(said) if "<sample>" in said else [said]


def numbers_of(text: str) -> str:
    """The numbers of an attempt's answer in order of size, or "" if it answers no Countdown question."""
    found = worth(text.partition("<answer>")[2].partition("</answer>")[0])
    return countdown.key_of(found.numbers) if found and len(found.numbers) > 1 else ""


@pytest.mark.parametrize("seed", range(40))
def test_no_context_holds_two_attempts_at_one_question(seed: int) -> None:
    random = rng(seed, "contexts")
    source = contexts(Writer(ROOM), random)
    whole = "".join(next(source).whole for _ in range(25))
    tried: Counter[str] = Counter()  # question → attempts at it
    for asked, said in chats(whole):
        head = _ASKED.search(asked)
        for text in attempts(asked, said):
            restated = _ASKED.match(text)
            own = restated or (head if "<sample>" not in said else None)
            if own:
                tried[f"{own[1]} from {countdown.key_of(list(map(int, own[2].split())))}"] += 1
            elif numbers_of(text):
                tried[numbers_of(text)] += 1  # an attempt that doesn't restate its question is known by its numbers
    assert tried
    assert tried.most_common(1)[0][1] == 1
    multisets = Counter(key.partition(" from ")[2] or key for key in tried)
    assert multisets.most_common(1)[0][1] == 1  # not even two questions over the same numbers


def far_records(n: int, seed: int = 0) -> list[Text]:
    writer, random = Writer(ROOM), Random(seed)
    return [writer.far(random) for _ in range(n)]


def test_a_far_record_attempts_the_question_at_its_head_once_and_last() -> None:
    for record in far_records(60):
        ((asked, said),) = chats(record.whole)
        *filler, last = _BLOCK.findall(said)
        assert last.startswith(asked)
        assert not any(asked in text for text in filler)
        assert not said.rstrip().endswith(END)


def test_a_far_record_teaches_no_tag_that_opens_and_no_opening_of_another_attempt() -> None:
    for record in far_records(60):
        learned = [piece.text for piece in record.pieces if piece.weight > 0.1]
        assert not any("<think>" in text or "<sample>" in text or "<reflect>" in text or "</think>" in text for text in learned)
        restated = [text for text in learned if _ASKED.match(text)]
        assert len(restated) <= 1


def test_far_records_reach_as_far_as_there_is_room() -> None:
    lengths = [len(re.findall(r"\w+|[^\w\s]", record.whole)) for record in far_records(300)]
    assert max(lengths) > 0.9 * ROOM
    assert min(lengths) < 100


def test_reviews_tell_the_truth() -> None:
    writer, random, told = Writer(ROOM), Random(1), Counter[bool]()
    task = Countdown()
    for _ in range(400):
        ((asked, said),) = chats(writer.review(random).whole)
        found = _ASKED.match(asked)
        if found is None:
            continue
        facts = {"numbers": list(map(int, found[2].split())), "target": int(found[1]), "use_all": "some of" not in asked}
        answer, _ = final_answer(asked)
        right = task.check(task.question(facts), answer or "").check is Check.RIGHT
        assert ("<verdict>Correct</verdict>" in said) == right, f"{asked}\n{said}"
        told[right] += 1
    assert min(told[True], told[False]) > 100


def test_questions_are_worded_as_the_task_words_them_and_come_from_one_split() -> None:
    random, task = Random(2), Countdown()
    for _ in range(200):
        asked = countdown.draw(random)
        facts = {"numbers": list(asked.numbers), "target": asked.target, "use_all": not asked.some, "brief": True}
        assert task.prompt(facts) == asked.prompt
        assert split_of(task.key(facts)) == countdown.SPLIT


def test_an_attempt_uses_every_number_and_shows_steps_that_hold() -> None:
    random = Random(3)
    for _ in range(200):
        asked = countdown.draw(random)
        way = solution(asked.numbers, asked.target, random, countdown.AIM)
        found = worth(way.expression)
        assert found is not None
        assert sorted(found.numbers) == sorted(asked.numbers)
        assert found.value == way.value
        assert found.small


def test_attempts_are_right_now_and_then() -> None:
    random = Random(4)
    for size, low, high in ((3, 0.15, 0.35), (6, 0.01, 0.10)):
        questions = [countdown.draw(random, size) for _ in range(600)]
        right = sum(countdown.try_it(asked, random).value == asked.target for asked in questions) / len(questions)
        assert low < right < high


def test_a_replay_row_is_its_text_cut_in_two_without_the_end() -> None:
    writer, random = Writer(ROOM), Random(5)
    for _ in range(100):
        text = writer.text(random)
        row = row_of(text)
        assert (row.prompt + row.completion).rstrip() == text.whole.rstrip().removesuffix(END).rstrip()
        assert not row.completion.endswith(END)
        assert row.completion.strip()
