"""Exact values of written expressions, and when two of them count as equal."""

from typing import NamedTuple


class Value(NamedTuple):
    """The fraction `top / bottom` (not reduced; undefined if `bottom` is 0), and how it was written if it is a plain number."""

    top: int
    bottom: int
    plain: bool = False  # a single number, no operator
    decimals: int = 0  # digits shown after the point
    zeros: int = 0  # zeros that end a whole number
    cut: bool = False  # an ellipsis follows the digits


def divide(a: Value, b: Value) -> Value:
    """`a / b`, undefined if `b` is zero or undefined."""
    return Value(a.top * b.bottom, a.bottom * b.top) if b.bottom else Value(0, 0)


def tolerance_holds(left: Value, right: Value, relation: str) -> bool:
    """Whether `left relation right` is true, for =, ≈ and ≠; a plain number may be rounded as its digits say.

    `=` allows half a unit of the last decimal shown (less than a unit if an ellipsis follows), nothing for whole numbers. `≈`
    allows less than a unit of the last digit that isn't an ending zero. `≠` is true unless the two are exactly equal. An
    undefined value equals nothing.
    """
    if not (left.bottom and right.bottom):
        return relation == "≠"
    bottom = abs(left.bottom * right.bottom)
    off = abs(left.top * right.bottom - right.top * left.bottom)
    if relation == "≠" or off == 0:
        return (off == 0) != (relation == "≠")
    return any(_within(off, bottom, value, relation) for value in (left, right) if value.plain)


def _within(off: int, bottom: int, value: Value, relation: str) -> bool:
    """Whether `off / bottom` is less than what the digits of `value` leave open."""
    scale: int = 10**value.decimals
    if relation == "≈":
        unit: int = 10**value.zeros
        return off * scale < bottom * unit
    if not value.decimals:
        return False
    return off * scale < bottom if value.cut else 2 * off * scale <= bottom
