"""Elements of a page: text becomes markup here and nowhere else, so nothing that a model wrote can open or close a tag."""

import html
from collections.abc import Iterable, Sequence

from skillfactory.report.words import safe

VOID = ("meta", "link", "input", "br")


class Markup(str):
    """Text that is markup already; all other text is escaped where it enters an element."""

    __slots__ = ()


Child = str | float | None


def element(tag: str, *children: Child, **attributes: str | float | bool | None) -> Markup:
    """An element with its children; None is nothing. `class_` is class, `stroke_width` is stroke-width, True is a bare name."""
    inner = "".join(map(_child, children))
    opening = tag + "".join(_attribute(name, value) for name, value in attributes.items())
    return Markup(f"<{opening}>" if tag in VOID else f"<{opening}>{inner}</{tag}>")


def joined(parts: Iterable[Child]) -> Markup:
    """Several pieces, one after another."""
    return Markup("".join(map(_child, parts)))


def number(value: float) -> str:
    """A coordinate: at most one decimal, no trailing zero."""
    text = f"{value:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def table(ident: str, caption: Child, head: Markup, body: Markup, foot: Markup | None = None) -> Markup:
    """A table that scrolls sideways where it doesn't fit; the frame can be reached by keyboard."""
    parts = [element("caption", caption, id=ident), element("thead", head), body, element("tfoot", foot) if foot else None]
    return element("div", element("table", *parts), class_="wide", tabindex="0", role="region", aria_labelledby=ident)


def row(header: Child, cells: Iterable[Child]) -> Markup:
    """A table row: a header, then cells of numbers."""
    return element("tr", element("th", header, scope="row"), *(element("td", cell) for cell in cells))


def header(names: Sequence[Child], words: Sequence[int] = ()) -> Markup:
    """A table row of column headers; those over columns of `words` stand left as these do."""
    cells = (element("th", name, scope="col", class_="words" if index in words else None) for index, name in enumerate(names))
    return element("tr", *cells)


def small(text: str) -> Markup | None:
    """A remark in small type, None if it is empty."""
    return element("small", text) if text else None


def _child(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, Markup):
        return child
    return html.escape(safe(child) if isinstance(child, str) else number(child))


def _attribute(name: str, value: str | float | bool | None) -> str:
    if value is None or value is False:
        return ""
    name = name.rstrip("_").replace("_", "-")
    if value is True:
        return f" {name}"
    return f' {name}="{html.escape(safe(value) if isinstance(value, str) else number(value))}"'
