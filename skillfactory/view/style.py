"""The style sheet of the pages: the report's, and a few rules for lists, filters and columns."""

from skillfactory.report import style

_RULES = """
body { padding-top: 1rem; max-width: 80rem; }
h1 { margin-top: .75rem; }
h2 { margin-top: 2rem; }
nav.crumbs a::after { content: " ›"; color: var(--quiet); }
nav.crumbs a { margin-right: .4rem; }
nav.tabs { display: flex; flex-wrap: wrap; gap: .25rem .5rem; margin: .75rem 0; border-bottom: 1px solid var(--rule); }
nav.tabs a { margin: 0; padding: .25rem .6rem; text-decoration: none; border-radius: .25rem .25rem 0 0; }
nav.tabs a[aria-current] { background: var(--shade); font-weight: 600; box-shadow: inset 0 -2px var(--h0); }
nav.pager { margin: 1rem 0; }
nav.pager a { display: inline-block; padding: .15rem 0; }
form.filters { display: flex; flex-wrap: wrap; gap: .6rem 1rem; align-items: end; margin: 1rem 0; }
form.filters label span { display: block; font-size: .8rem; color: var(--quiet); }
form.filters select, form.filters input, form.filters button { font: inherit; color: var(--ink); background: var(--shade);
  border: 1px solid var(--rule); border-radius: .25rem; padding: .3rem .5rem; max-width: 16rem; }
form.filters button { cursor: pointer; border-color: var(--h0); }
table.texts { width: 100%; }
table.rows th, table.rows td, table.rows td.words { min-width: 0; max-width: 28rem; overflow-wrap: break-word; }
table.rows thead th, table.rows thead th:first-child { text-align: right; min-width: 0; }
table.rows thead th.words, table.rows thead th.words:first-child { text-align: left; }
table.rows td:first-child { white-space: nowrap; }
table.rows td.words { white-space: normal; }
table.texts td:first-child { white-space: nowrap; }
table.texts td:nth-child(2), table.texts td:nth-child(3) { min-width: 7.5rem; }
table.texts td.words:last-child { min-width: 16rem; width: 70%; max-width: none; overflow-wrap: anywhere; }
table.texts td.words:last-child small { white-space: normal; }
table.rows td:not(.words), table.rows td span { white-space: nowrap; }
table.texts td.words:last-child span { white-space: normal; }
.counted { white-space: nowrap; margin-right: .6rem; }
.signs { letter-spacing: .1em; }
span.right { color: var(--h2); }
span.wrong, span.missing { color: var(--h1); }
mark { background: var(--glue); color: inherit; font-weight: 600; }
.part { max-width: 60rem; }
.sides { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 0 1.5rem; }
.side h2 { margin-top: 1rem; }
.side h3 small { display: inline; margin-right: .5rem; }
@media (max-width: 50rem) { .sides { grid-template-columns: minmax(0, 1fr); } }
"""


def sheet() -> str:
    """The whole style sheet."""
    return f"{style.sheet()}{_RULES.strip()}\n"
