"""The style sheet of a report: light and dark, for screens and paper. Nothing in it is fetched from anywhere."""

# What a colour means is always written or drawn as well: letters on curves, words on passages, rows of dots.
LIGHT = {
    "paper": "#fdfdfb",
    "ink": "#1d2126",
    "quiet": "#5a626b",
    "rule": "#d8dbd8",
    "shade": "#f3f4f1",
    "h0": "#1f5fa8",
    "h1": "#b4470f",
    "h2": "#1d7a55",
    "h3": "#8a3f94",
    "h4": "#8a6a00",
    "h5": "#4b4f57",
    "h6": "#b0275a",
    "h7": "#0b7285",
    "right": "#e4f2e8",
    "wrong": "#fbe9e2",
    "open": "#eeeeee",
    "reflection": "#e6eef8",
    "skill": "#f7e6ee",
    "glue": "#f4f1e4",
    "closing": "#f0e9f5",
    "answer": "#e3f1f2",
}
DARK = {
    "paper": "#15181b",
    "ink": "#e6e6e1",
    "quiet": "#a4abb2",
    "rule": "#3a4046",
    "shade": "#1e2226",
    "h0": "#79b0ee",
    "h1": "#f0945c",
    "h2": "#5cc79a",
    "h3": "#cf93d9",
    "h4": "#d9b748",
    "h5": "#b4bac2",
    "h6": "#f088ad",
    "h7": "#58c2d3",
    "right": "#1b3326",
    "wrong": "#43251a",
    "open": "#2a2d31",
    "reflection": "#1c2c40",
    "skill": "#3a1f2b",
    "glue": "#302d1d",
    "closing": "#30243a",
    "answer": "#17323a",
}
_RULES = """
html { color-scheme: light dark; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 70rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.7rem; line-height: 1.2; font-weight: 600; margin: 0 0 .75rem; }
h2 { font-size: 1.2rem; font-weight: 600; margin: 3rem 0 .5rem; padding-top: .75rem; border-top: 1px solid var(--rule); }
h3 { font-size: 1rem; font-weight: 600; margin: 1.5rem 0 .25rem; }
p, ul, dl { max-width: 44rem; margin: .5rem 0; }
small, caption, .quiet, dt { color: var(--quiet); font-size: .85rem; }
a { color: var(--h0); }
nav a { margin-right: 1rem; white-space: nowrap; }
:focus-visible { outline: 2px solid var(--h0); outline-offset: 2px; }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
caption { text-align: left; padding-bottom: .5rem; max-width: min(44rem, calc(100vw - 2.5rem)); }
th, td { padding: .35rem .9rem .35rem 0; text-align: right; vertical-align: top; border-bottom: 1px solid var(--rule); }
thead th { vertical-align: bottom; font-weight: 600; }
th[scope=row] { font-weight: 400; }
th[scope=row], thead th:first-child, td.words, th.words { text-align: left; min-width: 11rem; max-width: 20rem; }
td.words.reasons { min-width: 16rem; max-width: 26rem; }
thead th { min-width: 4.5rem; } thead .name { white-space: nowrap; overflow: hidden; text-overflow: ellipsis; display: block; }
thead small { min-width: 7rem; }
[aria-labelledby=results-table] { font-size: .85rem; }
[aria-labelledby=results-table] :is(th, td) { min-width: 0; padding-right: .6rem; }
[aria-labelledby=results-table] th:first-child { min-width: 8rem; max-width: 11rem; overflow-wrap: anywhere; }
[aria-labelledby=results-table] thead :is(.name, small) { min-width: 0; max-width: 7rem; white-space: normal;
  overflow-wrap: anywhere; font-size: .75rem; }
th[scope=rowgroup] { text-align: left; font-weight: 600; padding-top: 1rem; }
th small, td small { display: block; font-weight: 400; }
td, td small { white-space: nowrap; }
td.words { white-space: normal; }
td.most { font-weight: 600; }
tfoot th, tfoot td { color: var(--quiet); font-size: .85rem; border-bottom: 0; }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 20rem), 1fr)); gap: 1.5rem 2rem; }
.plots + .plots { margin-top: 1.5rem; }
figure { margin: 0; break-inside: avoid; }
figcaption { font-weight: 600; font-size: .95rem; }
figcaption small { font-weight: 400; }
svg { display: block; width: 100%; max-width: 24rem; height: auto; }
svg text { font: 12px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: var(--ink); }
svg .tick, svg .unit { font-size: 11px; fill: var(--quiet); }
svg .value { font-variant-numeric: tabular-nums; }
svg .letter { font-weight: 600; font-size: 11px; }
svg .grid { stroke: var(--rule); stroke-width: 1; fill: none; }
svg .zero { stroke: var(--quiet); stroke-width: 1; fill: none; }
svg .interval { stroke-width: 2; }
svg .cap { stroke-width: 1.5; }
svg .curve { fill: none; stroke-width: 1.3; stroke-opacity: .85; stroke-linejoin: round; }
svg.bar { display: inline-block; width: 7.5rem; max-width: none; vertical-align: middle; }
svg.bar rect { fill: var(--h2); } svg.bar .lost { fill: var(--wrong); stroke: var(--h1); stroke-width: 1; }
svg .rightward { fill: var(--h2); } svg .wrongward { fill: var(--h1); }
svg.swatch { display: inline-block; width: 46px; vertical-align: middle; }
.legend { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: .25rem 1.5rem; max-width: none; }
.axis { position: absolute; opacity: 0; }
.axes { margin: .5rem 0; }
.axes label { display: inline-block; padding: .1rem .6rem; margin-right: .5rem; border: 1px solid var(--rule);
  border-radius: .25rem; }
.by-tokens, .by-steps { display: none; }
#axis-tokens:checked ~ .by-tokens, #axis-steps:checked ~ .by-steps { display: grid; }
#axis-tokens:checked ~ .axes label[for=axis-tokens], #axis-steps:checked ~ .axes label[for=axis-steps] {
  border-color: var(--ink); font-weight: 600; }
#axis-tokens:focus-visible ~ .axes label[for=axis-tokens], #axis-steps:focus-visible ~ .axes label[for=axis-steps] {
  outline: 2px solid var(--h0); outline-offset: 2px; }
details { margin: .5rem 0; border: 1px solid var(--rule); border-radius: .25rem; padding: .4rem .75rem; }
summary { cursor: pointer; }
details.class { border-width: 0 0 0 3px; border-radius: 0; padding: .1rem 0 .1rem .75rem; }
summary small { white-space: nowrap; }
.words, pre { white-space: pre-wrap; overflow-wrap: anywhere; overflow: hidden; unicode-bidi: isolate; }
.words { margin: 0; }
pre, .part, .tags { font: .85rem/1.5 ui-monospace, "DejaVu Sans Mono", Consolas, monospace; }
pre { background: var(--shade); padding: .6rem .8rem; }
.part { margin: .35rem 0; padding: .35rem .75rem; max-width: none;
  border-left: 4px solid var(--quiet); background: var(--open); }
.part .kind { margin: 0; font: 600 .8rem/1.5 system-ui, "DejaVu Sans", sans-serif; }
.part.right { background: var(--right); border-left-color: var(--h2); }
.part.wrong { background: var(--wrong); border-left: 4px double var(--h1); }
.part.reflection { background: var(--reflection); border-left: 4px dotted var(--h0); }
.part.skill { background: var(--skill); border-left: 4px dotted var(--h6); }
.part.glue { background: var(--glue); border-left: 4px dashed var(--h4); }
.part.closing { background: var(--closing); border-left: 4px dashed var(--h3); }
.part.answer { background: var(--answer); border-left: 4px solid var(--h7); }
.tags { margin: .2rem 0; color: var(--quiet); white-space: pre-wrap; }
.cut { margin: .75rem 0; color: var(--quiet); font-style: italic; }
.key { display: flex; flex-wrap: wrap; gap: .5rem; list-style: none; padding: 0; max-width: none; }
dl.facts { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1.25rem; }
dl.facts dd { margin: 0; }
@media (max-width: 40rem) { body { padding: 1rem .75rem 3rem; }
  dl.facts { display: block; } dl.facts dd { margin: 0 0 .4rem; } }
@media print { body { max-width: none; padding: 0; font-size: 10pt; } nav, .axes { display: none; } .wide { overflow: visible; }
  h2, h3, summary { break-after: avoid; } tr { break-inside: avoid; } details { border: 0; padding: 0; }
  details::details-content { content-visibility: visible; block-size: auto; } }
"""


def sheet() -> str:
    """The whole style sheet."""
    hues = "\n".join(map(_hue, range(8)))
    dark = f"@media screen and (prefers-color-scheme: dark) {{ {_colours(DARK)} }}"
    return f"{_colours(LIGHT)}\n{dark}\n{_RULES.strip()}\n{hues}\n"


def _colours(colours: dict[str, str]) -> str:
    return ":root { " + " ".join(f"--{name}: {value};" for name, value in colours.items()) + " }"


def _hue(index: int) -> str:
    colour = f"var(--h{index})"
    lines = f".h{index} {{ stroke: {colour}; }} .dot.h{index} {{ fill: {colour}; stroke: none; }}"
    return f"{lines} svg .t{index} {{ fill: {colour}; }}"
