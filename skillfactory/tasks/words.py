"""Letter Countdown and Acronym: spell an English word from given letters, or from the first letters of given words."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import groupby
from random import Random
from typing import Any, ClassVar, NamedTuple

from skillfactory.errors import ConfigError, InputError
from skillfactory.records import Grade, Question
from skillfactory.tasks import reasons
from skillfactory.tasks.generated import Facts, draw_questions, given_question, is_brief, listed, need, shown, whole_number

SHORTEST, LONGEST = 3, 8  # letters of the dictionary's words
MAX_CHARS = 64  # of an answer, blanks around it included
MAX_GIVEN = 32  # letters or words
MAX_EXTRA = 8
MINI = "mini"  # the level for models with a small vocabulary: no extras, and the words of words-mini.txt


@cache
def dictionary() -> dict[str, None]:
    """The words that are accepted, in alphabetical order; docs/tasks.md says where they come from."""
    text = files("skillfactory.tasks").joinpath("words.txt").read_text("ascii")
    return dict.fromkeys(text.split())


@cache
def _all() -> tuple[str, ...]:
    return tuple(dictionary())


@cache
def _of_length(length: int) -> tuple[str, ...]:
    return tuple(word for word in dictionary() if len(word) == length)


@cache
def _by_initial() -> dict[str, tuple[str, ...]]:
    return {initial: tuple(word for word in dictionary() if word[0] == initial) for initial in "abcdefghijklmnopqrstuvwxyz"}


class MiniWords(NamedTuple):
    """The words of the level `mini`. No two answers have the same letters, and no answer is a word that spells another."""

    answers: tuple[str, ...]
    spelling: dict[str, tuple[str, ...]]  # initial: the words that may stand for it


@cache
def mini_words() -> MiniWords:
    """The words of words-mini.txt: answers, a blank line, words that spell; lines that begin with # are comments."""
    text = files("skillfactory.tasks").joinpath("words-mini.txt").read_text("ascii")
    parts = [[word for line in part.splitlines() if line[:1] != "#" for word in line.split()] for part in text.split("\n\n")]
    answers, spelling = map(tuple, parts)
    return MiniWords(answers, {initial: tuple(group) for initial, group in groupby(spelling, key=lambda word: word[0])})


def _spelled(answer: str, length: int, letters: Sequence[str]) -> Grade:
    """The grade of `answer` as a word of `length` letters, each taken from `letters` once; upper case is as good as lower."""
    if len(answer) > MAX_CHARS:
        return reasons.TOO_LONG
    word = answer.strip(" \t\r\n")
    if not word:
        return reasons.EMPTY
    if not (word.isascii() and word.isalpha()):  # before lower(), which makes an ASCII k of the Kelvin sign
        return reasons.NOT_A_WORD
    word = word.lower()
    if len(word) != length:
        return reasons.WRONG_LENGTH
    left = list(letters)
    for letter in word:
        if letter not in left:
            return reasons.LETTER_REUSED if letter in letters else reasons.LETTER_NOT_GIVEN
        left.remove(letter)
    return reasons.FITTING_WORD if word in dictionary() else reasons.NOT_IN_DICTIONARY


def _check_extra(task: str, extra: int) -> None:
    if not (type(extra) is int and 0 <= extra <= MAX_EXTRA):
        raise ConfigError(f"{task}: 'extra' must be a whole number from 0 to {MAX_EXTRA}, not {shown(extra)}")


def _flagged(facts: dict[str, Any], brief: bool) -> tuple[dict[str, Any], str]:
    """The facts with "brief", if it is set, and the level that they are of."""
    return ({**facts, "brief": True}, MINI) if brief else (facts, str(facts["length"]))


def _length(task: str, facts: Facts, given: int) -> int:
    """The fact "length", if a word of that length can be spelled from so many letters."""
    return whole_number(task, "length", need(task, facts, "length"), SHORTEST, min(LONGEST, given))


@dataclass(frozen=True)
class LetterCountdown:
    """Scrambled letters, wanted is an English word of a given length; each letter may be used once."""

    extra: int = 2  # letters beyond those of the word that the question was made from; the level mini has none

    name: ClassVar[str] = "letter_countdown"
    levels: ClassVar[tuple[str, ...]] = ("4", "5", MINI)  # the word's length; mini has both 3 and 4
    answer_format: ClassVar[str] = "one English word"

    def __post_init__(self) -> None:
        _check_extra(self.name, self.extra)

    def questions(self, n: int | None, level: str, seed: int, split: str) -> Iterator[Question]:
        """The first `n` items; see Task."""
        return draw_questions(self, n, level, seed, split)

    def draw(self, level: str, random: Random) -> tuple[Facts, str] | None:
        """The shuffled letters of a word and `extra` more, as frequent as in the dictionary; None if they show the word."""
        word = random.choice(mini_words().answers if level == MINI else _of_length(int(level)))
        extra = 0 if level == MINI else self.extra
        letters = list(word) + [random.choice(random.choice(_of_length(LONGEST))) for _ in range(extra)]
        random.shuffle(letters)
        scrambled = "".join(letters)
        facts, _ = _flagged({"letters": scrambled, "length": len(word)}, level == MINI)
        return None if word in scrambled else (facts, word)

    def question(self, facts: Facts) -> Question:
        """The question of {"letters": "..." (or a list of letters), "length": n} and, if wanted, "brief"."""
        value = need(self.name, facts, "letters")
        letters = listed(self.name, "letters", list(value) if isinstance(value, str) else value, SHORTEST, MAX_GIVEN)
        if not all(isinstance(x, str) and len(x) == 1 and x.isascii() and x.isalpha() for x in letters):
            raise InputError(f"{self.name}: 'letters' must be letters from a to z and nothing between them, not {shown(value)}")
        length = _length(self.name, facts, len(letters))
        brief = is_brief(self.name, facts)
        return given_question(self, *_flagged({"letters": "".join(letters).lower(), "length": length}, brief))

    def key(self, facts: Facts) -> str:
        """The letters in alphabetical order and the length."""
        return f"letter_countdown {''.join(sorted(facts['letters']))} {facts['length']}"

    def canonical(self, question: Question) -> str:
        """What makes two questions the same: the letters in any order, and the length."""
        return self.key(question.facts)

    def prompt(self, facts: Facts) -> str:
        """What the user turn says."""
        if facts.get("brief"):
            return f"Unscramble: {' '.join(facts['letters'])}."
        return (
            f"Form an English word of exactly {facts['length']} letters out of these letters: {' '.join(facts['letters'])}. "
            "Use each letter no more often than it is listed; letters may be left over. "
            "Write the word inside <answer> and </answer>."
        )

    def check(self, question: Question, answer: str) -> Grade:
        """Whether `answer` is a word of the dictionary, of the right length, spelled from the letters."""
        return _spelled(answer, question.facts["length"], question.facts["letters"])


@dataclass(frozen=True)
class Acronym:
    """A list of words, wanted is an English word spelled from the first letters of some of them, in any order."""

    extra: int = 2  # words beyond those that spell the word that the question was made from; the level mini has none

    name: ClassVar[str] = "acronym"
    levels: ClassVar[tuple[str, ...]] = ("4", "5", MINI)  # the word's length; mini has both 3 and 4
    answer_format: ClassVar[str] = "one English word"

    def __post_init__(self) -> None:
        _check_extra(self.name, self.extra)

    def questions(self, n: int | None, level: str, seed: int, split: str) -> Iterator[Question]:
        """The first `n` items; see Task."""
        return draw_questions(self, n, level, seed, split)

    def draw(self, level: str, random: Random) -> tuple[Facts, str] | None:
        """Shuffled words, one per letter of a word and `extra` more; None if two of them are equal or one is the answer."""
        if level == MINI:
            return self._mini(random)
        word = random.choice(_of_length(int(level)))
        spelling = [random.choice(_by_initial()[letter]) for letter in word]
        words = spelling + [random.choice(_all()) for _ in range(self.extra)]
        if len({word, *words}) <= len(words):
            return None
        random.shuffle(words)
        return {"words": words, "length": len(word)}, word

    def _mini(self, random: Random) -> tuple[Facts, str] | None:
        """Words in the order of the answer's letters and no others; None if two of them are equal."""
        answers, spelling = mini_words()
        word = random.choice(answers)
        words = [random.choice(spelling[letter]) for letter in word]
        facts, _ = _flagged({"words": words, "length": len(word)}, True)
        return (facts, word) if len(set(words)) == len(words) else None

    def question(self, facts: Facts) -> Question:
        """The question of {"words": [..], "length": n} and, if wanted, "brief"; the words differ and begin with a to z."""
        words = listed(self.name, "words", need(self.name, facts, "words"), SHORTEST, MAX_GIVEN)
        for word in words:
            if not (isinstance(word, str) and len(word) <= MAX_CHARS and word[:1].isascii() and word[:1].isalpha()):
                raise InputError(
                    f"{self.name}: 'words' must be texts of at most {MAX_CHARS} characters "
                    f"that begin with a letter from a to z, not {shown(word)}"
                )
        lower = [word.lower() for word in words]
        twice = [word for word, count in Counter(lower).items() if count > 1]
        if twice:
            raise InputError(f"{self.name}: 'words' must differ, but {shown(twice[0])} comes twice; give it once")
        length = _length(self.name, facts, len(words))
        return given_question(self, *_flagged({"words": lower, "length": length}, is_brief(self.name, facts)))

    def key(self, facts: Facts) -> str:
        """The words in alphabetical order and the length."""
        return f"acronym {' '.join(sorted(facts['words']))} {facts['length']}"

    def canonical(self, question: Question) -> str:
        """What makes two questions the same: the words in any order, and the length."""
        return self.key(question.facts)

    def prompt(self, facts: Facts) -> str:
        """What the user turn says."""
        if facts.get("brief"):
            return f"Initials of: {' '.join(facts['words'])}?"
        return (
            f"Take the first letters of {facts['length']} of these words, in any order, so that they spell an English word: "
            f"{', '.join(facts['words'])}. Each listed word may lend its first letter once. "
            f"Write the word of {facts['length']} letters inside <answer> and </answer>."
        )

    def check(self, question: Question, answer: str) -> Grade:
        """Whether `answer` is a word of the dictionary, of the right length, spelled from initials of different words."""
        return _spelled(answer, question.facts["length"], [word[0] for word in question.facts["words"]])
