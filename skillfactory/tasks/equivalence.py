"""Mathematical equivalence of two short LaTeX or plain texts, through math-verify in a worker process that can be killed.

What the library takes for equal but a grader must not is refused here, before it is asked: `5 6` (which it adds up), chains
such as `6 = 12`, words and digits in text commands (which it leaves out), several boxes, numerals of different bases, a pair
against a set, a word against its anagram. Units are taken off here, since it takes `2t` for 2. Decimals have to be exact; only
an irrational gold can be met by a decimal, to twelve places.
"""

import re
from collections.abc import Callable
from typing import Any

from skillfactory.errors import SkillFactoryError, require
from skillfactory.records import Check, Grade
from skillfactory.tasks import reasons
from skillfactory.tasks.numbers import exact, unwrapped
from skillfactory.tasks.sandbox import Died, Raised, Returned, TimedOut, shared

MAX_CHARS = 400  # of an answer; the longest gold of MATH has about 160
SECONDS = 5.0  # of processor time; an ordinary comparison takes some 5 to 50 milliseconds

UNPARSEABLE = Grade(Check.WRONG, "unparseable")
_SAME_TEXT = Grade(Check.RIGHT, "same_text")

_SIDE_BY_SIDE = re.compile(r"[0-9.](?:\s|\\[ ,;:!])+[0-9.]")
_EQUALS = re.compile(r"(?<![<>!\\:])=(?!=)|≈|\\approx")
_NAME = re.compile(r"\s*\\?[A-Za-z]{1,8}(?:_\{?[A-Za-z0-9]{1,3}\}?)?'?(?:\s*\([A-Za-z](?:,\s*[A-Za-z])*\))?\s*")
_BASE = re.compile(r"[0-9A-Fa-f]_\{?(?:\\text\{)?([0-9]{1,2})\}{0,2}$")
_LETTERS = re.compile(r"[A-Za-z' -]+")
_WORD = re.compile(r"[A-Za-z]{4}")  # shorter ones may be products of variables
_PLAIN = re.compile(r"[0-9./+-]+")
_IGNORED = re.compile(r"\\(?:[lc]?dots\w*|[pb]?mod)(?![A-Za-z])|(?<=[0-9)}])\s*['\"]")  # what the library passes over
_COMMAND = r"\\(?:text(?:bf|it|rm|sf|tt|up|sc|normal)?|[mh]box|math(?:rm|bf|it|sf|tt)|operatorname|rm|bf|it)(?![A-Za-z])\*?"
_IN_TEXT = re.compile(_COMMAND + r"\s*(?:\{([^{}]*)\})?")
_POWER = r"(?:\s*\^\s*\{?[23]\}?)?"
_LAST_TEXT = re.compile(_COMMAND + r"\s*\{([^{}]*)\}" + _POWER + r"$")
_LAST_WORDS = re.compile(r"(?<=[0-9})\s])([A-Za-z]{2,}(?:[ /]+[A-Za-z]{2,})*)" + _POWER + r"$")
_BLANKS_AT_END = re.compile(r"(?:\s|\\[ ,;:!]|~)+$")
_UNIT_NAMES = """
mm cm dm m km inch inches in foot feet ft yard yards yd mile miles mi millimeter centimeter meter kilometer
mg g kg gram grams kilogram kilograms ton tons tonne tonnes ounce ounces oz pound pounds lb lbs
ml l liter liters litre litres gallon gallons gal quart quarts pint pints cup cups cc acre acres hectare hectares
s sec secs second seconds min mins minute minutes h hr hrs hour hours day days week weeks month months year years yr yrs
degree degrees deg radian radians celsius fahrenheit kelvin percent dollar dollars cent cents euro euros rupee rupees
mph kph kmh n newton newtons j joule joules w watt watts v volt volts ampere amperes ohm ohms hz hertz pascal pascals
unit units square squared cubic cubed cube sq cu per meters metre metres centimeters centimetre centimetres
millimeters millimetre millimetres kilometers kilometre kilometres
"""
_UNITS = frozenset(_UNIT_NAMES.split())
_FUNCTIONS = "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln exp gcd lcm det max min sgn"
_HARMLESS = frozenset(("and", "or", *_FUNCTIONS.split()))  # in a text command: what joins a list, and functions


def equivalent(gold: str, answer: str, seconds: float = SECONDS) -> Grade:
    """Whether `answer` equals `gold` as mathematics. The order matters: the gold decides which form is wanted.

    UNDECIDED "timeout" and "worker_died" if the worker is lost over it. A gold must have passed `usable_gold`.
    """
    if len(answer) > MAX_CHARS:
        return reasons.TOO_LONG
    want, got = unwrapped(gold), unwrapped(unwrapped(answer).removesuffix("."))
    if not got:
        return reasons.EMPTY
    if want.removesuffix(".") == got:
        return _SAME_TEXT
    grade = _plainly(want, got, _is_word(gold)) or _refused(want, got)
    return grade or _asked(_without_unit(want, want), _without_unit(got, want), seconds)


def usable_gold(gold: str) -> str | None:
    """Why `gold` can't be one (it is too long, can't be parsed, or isn't equal to itself), or None if it can."""
    want = unwrapped(gold)
    if not want or len(want) > MAX_CHARS:
        return "empty" if not want else "too_long"
    if _plain(want) is not None or _is_word(gold):
        return None
    bare = _without_unit(want, want)
    grade = _refused(want, want) or _asked(bare, bare, SECONDS)
    return None if grade.check is Check.RIGHT else grade.reason


def _plain(text: str) -> Any:
    """The value of a number in which no sign can be read in two ways (a comma can), or None."""
    return exact(text) if _PLAIN.fullmatch(text) else None


def _is_word(gold: str) -> bool:
    """Whether `gold` is to be compared letter by letter: a word of four letters or more, or letters in a text command."""
    want = unwrapped(gold)
    return bool(_LETTERS.fullmatch(want)) and ("\\text" in gold or bool(_WORD.search(want)))


def _plainly(want: str, got: str, is_word: bool) -> Grade | None:
    """The grade of what needs no algebra: two plain numbers, or a gold that is a word."""
    numbers = _plain(want), _plain(got)
    if None not in numbers:
        return reasons.EQUAL if numbers[0] == numbers[1] else reasons.WRONG_VALUE
    if is_word:
        same = " ".join(want.casefold().split()) == " ".join(got.casefold().split())
        return reasons.EQUAL if same else reasons.WRONG_VALUE
    return None


def _refused(want: str, got: str) -> Grade | None:
    """The grade of an answer in a form that can't be right, whatever the library would make of it."""
    if _SIDE_BY_SIDE.search(got) or "\\boxed" in got or "\\fbox" in got or "$" in got.replace("\\$", ""):
        return UNPARSEABLE
    if set(_IGNORED.findall(got)) - set(_IGNORED.findall(want)):
        return UNPARSEABLE
    if _has_words(_without_unit(got, want), want):
        return Grade(Check.WRONG, "words")
    sides = _EQUALS.split(got)
    allowed = len(_EQUALS.findall(want))
    if len(sides) > 1 + max(1, allowed) or (not allowed and len(sides) == 2 and not _NAME.fullmatch(sides[0])):
        return Grade(Check.WRONG, "equation")
    bases = [_BASE.search(text) for text in (want, got)]
    if bases[1] and not (bases[0] and bases[0][1] == bases[1][1]):
        return Grade(Check.WRONG, "other_base")
    if _in_other_case(got, want):
        return Grade(Check.WRONG, "other_case")
    if {_shape(want), _shape(got)} == {"tuple", "list"}:
        return Grade(Check.WRONG, "other_brackets")
    return None


def _words(text: str) -> list[str]:
    """The words and numbers of a text, in lower case."""
    return re.findall(r"[0-9]+|[^\W\d_]+", text.casefold())


def _without_unit(text: str, gold: str) -> str:
    """`text` without the unit at its end: known words, or those of the gold; a single letter is one in a text command only.

    In the gold itself any text command at the end is one.
    """
    for form in (_LAST_TEXT, _LAST_WORDS):
        found = form.search(text)
        if found and text[: found.start()].strip():
            known = _UNITS | set(_words(gold) if form is _LAST_TEXT or text != gold else ())
            if {*_words(found[1])} <= known and not re.search("[0-9]", found[1]):
                return _BLANKS_AT_END.sub("", text[: found.start()])
    return text


def _has_words(got: str, want: str) -> bool:
    """Whether a text command of `got` says more than a name, a function, what joins a list or what the gold says."""
    said = {" ".join(_words(found[1] or found[0])) for found in _IN_TEXT.finditer(want)}
    for found in _IN_TEXT.finditer(got):
        words = _words(found[1] or found[0])
        known = len(words) <= 1 and all(word in _HARMLESS or (len(word) == 1 and word.isalpha()) for word in words)
        if not known and " ".join(words) not in said:
            return True
    return False


def _in_other_case(got: str, want: str) -> bool:
    """Whether a letter of `want` stands in `got` in the other case only. The library folds some: subscripts, E and e."""
    ours, theirs = (set(re.sub(r"\\[A-Za-z]+", "", text)) for text in (got, want))
    return any(letter.isalpha() and letter.swapcase() in theirs - ours for letter in ours - theirs)


def _shape(text: str) -> str:
    """Whether `text` is a "tuple" in round or square brackets, a "list" with commas outside of all brackets, or neither."""
    body = text.replace("\\left", "").replace("\\right", "").replace("\\{", "{").replace("\\}", "}").strip()
    depth = commas_outside = 0
    closes_early = False
    for position, character in enumerate(body):
        if character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
            closes_early |= depth == 0 and position < len(body) - 1
        elif character == "," and depth == 0 and not re.match(r"[0-9]{3}(?![0-9])", body[position + 1 : position + 5]):
            commas_outside += 1
    if commas_outside:
        return "list"
    enclosed = body[:1] in ("(", "[") and body[-1:] in (")", "]") and not closes_early
    return "tuple" if enclosed and "," in body else ""


def _asked(want: str, got: str, seconds: float) -> Grade:
    """The grade that a worker gives."""
    box = shared(f"{__name__}:judge")
    match box.call(want, got, timeout=seconds):
        case Returned([str(check), str(reason)]):
            return Grade(Check(check), reason)
        case TimedOut():
            return Grade(Check.UNDECIDED, "timeout")
        case Died() | Raised("MemoryError" | "RecursionError"):
            return Grade(Check.UNDECIDED, "worker_died")
        case outcome:
            raise SkillFactoryError(f"the worker for mathematical equivalence failed: {outcome}")


def judge() -> Callable[[str, str], tuple[str, str]]:
    """The function that a worker serves: (gold, answer) → (check, reason). Only ever called in a worker."""
    verifier = require("math_verify", "math")
    parser = require("math_verify.parser", "math")
    latex = require("latex2sympy2_extended.latex2sympy2", "math")
    cased = latex.ConversionConfig(lowercase_symbols=False)  # X is not x
    forms = latex.NormalizationConfig(
        basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none", equations=False
    )

    def parse(text: str) -> Any:
        """The whole of `text` as a sympy object (math-verify's own extraction would take a part of it), or None."""
        normal = latex.normalize_latex(text, config=forms)
        is_real = not parser.should_treat_as_complex(normal)
        try:
            return latex.latex2sympy(
                normal, is_real=is_real, convert_degrees=False, normalization_config=None, conversion_config=cased
            )
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001  the parser raises anything, bare Exception among it, at what it can't read
            return None

    def compare(gold: str, answer: str) -> tuple[str, str]:
        want, got = parse(gold), parse(answer)
        if want is None or got is None:
            return "wrong", "unparseable"
        # its own clock is an alarm signal, which would replace ours
        equal = verifier.verify(want, got, float_rounding=12, timeout_seconds=None, raise_on_error=False)
        return ("right", "equivalent") if equal else ("wrong", "not_equivalent")

    compare("\\frac{1}{2}", "0.5 x")  # what loads on first use is loaded now, before any clock runs
    return compare
