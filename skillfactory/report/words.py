"""Numbers and foreign texts as readers see them: None is "–", and no character can reorder or hide what stands around it."""

import math
import unicodedata
from collections.abc import Callable

from skillfactory.report.numbers import Estimate, Unit

NOTHING = "–"
_HUGE = 1e15  # digits beyond this say nothing
_UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}  # controls, bidi overrides, lone surrogates, unassigned, line separators


def safe(text: str, limit: int | None = None) -> str:
    """`text` with every character that has no shape of its own spelled out, such as ⟨U+202E⟩; cut at `limit` with a note.

    New lines and tabs stay. At most 10 characters are given for each that is kept.
    """
    rest = "" if limit is None or len(text) <= limit else f"… ({len(text) - limit:,} more characters)"
    kept = text[:limit].replace("\r\n", "\n")
    if kept.isascii() and kept.replace("\n", "").replace("\t", "").isprintable():
        return kept + rest
    return "".join(map(_visible, kept)) + rest


def line(text: str, limit: int = 120) -> str:
    """`text` made safe, on one line, at most `limit` characters of it."""
    cut = text if len(text) <= limit else text[: limit - 1] + "…"
    return " ".join(safe(cut).split())


def _visible(char: str) -> str:
    if char in "\n\t" or unicodedata.category(char) not in _UNSEEN:
        return char
    return f"⟨U+{ord(char):04X}⟩"


def letter(index: int) -> str:
    """The letter of a curve: A … Z, then AA …."""
    return chr(65 + index) if index < 26 else letter(index // 26 - 1) + letter(index % 26)


def known(value: float | None) -> float | None:
    """`value` if it is a finite number, else None: a NaN from a log is as unknown as a gap in it."""
    return value if value is not None and math.isfinite(value) else None


def share(value: float | None) -> str:
    """A share in percent, one decimal, without the sign: `42.1`."""
    value = known(value)
    return NOTHING if value is None else _plain(100 * value, 1)


def points(value: float | None) -> str:
    """A difference of shares in points, with its sign: `+9.3`."""
    text = share(value)
    return text if text in (NOTHING, "0.0") or text[0] == "−" else f"+{text}"


def number(value: float | None) -> str:
    """A number with three digits or so: `0.96`, `12.3`, `284`, `12,345`."""
    value = known(value)
    if value is None:
        return NOTHING
    size = abs(value)
    return _plain(value, 2 if size < 10 else 1 if size < 100 else 0)


def count(value: int | None) -> str:
    """A whole number with its thousands set apart: `1,024`."""
    return NOTHING if value is None else f"{value:,}"


def compact(value: float | None) -> str:
    """A number in few characters: `950`, `12k`, `3.05M`, `1.2B`."""
    value = known(value)
    if value is None:
        return NOTHING
    for size, sign in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= 0.9995 * size and abs(value) < _HUGE:
            digits = f"{value / size:.3g}" if abs(value / size) < 999.5 else f"{value / size:.0f}"
            return digits.replace("-", "−") + sign
    return f"{value:.3g}".replace("-", "−")


def duration(seconds: float | None) -> str:
    """A time in the units that fit it: `0.4 s`, `47 s`, `3 min 20 s`, `2 h 05 min`."""
    seconds = known(seconds)
    if seconds is None:
        return NOTHING
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60:,} h {minutes % 60:02d} min"


def of_unit(value: float | None, unit: Unit) -> str:
    """A value with its unit, where that isn't plain."""
    if value is None or known(value) is None:
        return NOTHING
    if unit == "count":
        return count(round(value))
    return f"{share(value)} %" if unit == "share" else number(value)


def interval(estimate: Estimate, form: Callable[[float | None], str], to: str = "–") -> str:
    """The ends of an interval, `38.0–46.2`; "" where there is none."""
    if known(estimate.low) is None or known(estimate.high) is None:
        return ""
    return f"{form(estimate.low)}{to}{form(estimate.high)}"


def with_interval(estimate: Estimate, form: Callable[[float | None], str], to: str = "–") -> str:
    """A number with its interval: `42.1 (38.0–46.2)`."""
    ends = interval(estimate, form, to)
    return f"{form(estimate.value)} ({ends})" if ends else form(estimate.value)


def reading(difference: Estimate) -> str:
    """What the interval of a difference says about its sign."""
    low, high = known(difference.low), known(difference.high)
    if low is None or high is None:
        return NOTHING
    return "above zero" if low > 0 else "below zero" if high < 0 else "interval holds zero"


def _plain(value: float, decimals: int) -> str:
    if abs(value) >= _HUGE:
        return f"{value:.2e}".replace("-", "−")
    text = f"{value:,.{decimals}f}"
    return text.lstrip("-") if not text.strip("-0.,") else text.replace("-", "−")
