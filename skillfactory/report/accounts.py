"""The sections of a report on what went in and where it came from: kept and dropped with reasons, runs and their settings."""

from collections.abc import Iterator, Mapping, Sequence

from skillfactory.report.elements import Child, Markup, element, header, joined, small, table
from skillfactory.report.numbers import Account, Origin, Study
from skillfactory.report.responses import facts
from skillfactory.report.words import count, line, safe, share

_BAR = 120  # width of the bar of an account
_REASONS = 12  # of an account; the rest is summed
_ORIGINS = 100
_SETTINGS = 2_000  # lines of settings on a page


def accounts(study: Study) -> Markup | None:
    """What each stage was asked for, what it kept, and why the rest went; stages that dropped nothing are folded."""
    found = [each for each in study.accounts if each.funnel.requested]
    if not found:
        return None
    told = "Requested = kept + dropped, for every stage and every unit of it; the runs of several seeds are summed."
    lossy = [each for each in found if each.funnel.kept < each.funnel.requested]
    whole = [each for each in found if each.funnel.kept == each.funnel.requested]
    parts = [_table("accounts-table", told, lossy)] if lossy else []
    if whole:
        title = f"{count(len(whole))} accounts in which nothing was dropped"
        parts.append(element("details", element("summary", title), _table("whole-table", "Requested is kept here.", whole)))
    return joined(parts)


def _table(ident: str, caption: str, found: Sequence[Account]) -> Markup:
    head = header(["Stage", "Of", "Requested", "Kept", "Kept, %", "", "Dropped because"], words=(1, 6))
    return table(ident, caption, head, element("tbody", *map(_row, found)))


def _row(account: Account) -> Markup:
    funnel = account.funnel
    kept = funnel.kept / funnel.requested
    runs = small(f"{count(account.runs)} runs") if account.runs > 1 else None
    cells: list[Child] = [element("td", line(funnel.unit), class_="words")]
    cells += [element("td", text) for text in (count(funnel.requested), count(funnel.kept), share(kept))]
    cells += [element("td", _bar(kept)), element("td", *_reasons(funnel.dropped, funnel.requested), class_="words reasons")]
    return element("tr", element("th", line(account.label), runs, scope="row"), *cells)


def _bar(kept: float) -> Markup:
    """The share kept as a drawing; the number stands beside it."""
    width = max(0.0, min(1.0, kept)) * _BAR
    parts = [element("rect", x=0, y=2, width=_BAR, height=10, class_="lost"), element("rect", x=0, y=2, width=width, height=10)]
    return element("svg", *parts, class_="bar", viewBox=f"0 0 {_BAR} 14", width=_BAR, height=14, aria_hidden="true")


def _reasons(dropped: Mapping[str, int], requested: int) -> Iterator[Markup]:
    ordered = sorted(dropped.items(), key=lambda item: (-item[1], item[0]))
    rest = sum(number for _, number in ordered[_REASONS:])
    for reason, number in [*ordered[:_REASONS], *([("other reasons", rest)] if rest else [])]:
        words = f" {count(number)} ({share(number / requested)} %)"
        yield element("div", line(reason.replace("_", " ")), element("span", words, class_="quiet"))


def making(study: Study) -> Markup | None:
    """Settings, versions, the command, and the runs with theirs."""
    seeds = {f"Seeds of {line(arm.label)}": _listed(arm.seeds) for arm in study.arms if arm.seeds}
    found = {"Settings": {**dict(study.settings), **seeds}, "Versions": dict(study.versions)}
    parts: list[Markup] = []
    for title, entries in found.items():
        if entries:
            parts += [element("h3", title), facts(entries)]
    if study.command:
        parts += [element("h3", "The command that makes this again"), element("pre", safe(study.command, 4_000))]
    if study.origins:
        parts += [element("h3", "Runs"), *_origins(study.origins[:_ORIGINS])]
    return joined(parts) if parts else None


def _origins(origins: Sequence[Origin]) -> Iterator[Markup]:
    most = max(10, _SETTINGS // len(origins))
    for origin in origins:
        about = [" ".join(origin.command.split()[:2]), origin.model and f"model {origin.model}"]
        about.append(f"seed{'s' if len(origin.seeds) > 1 else ''} {_listed(origin.seeds)}" if origin.seeds else "")
        title = element("summary", line(origin.label), " ", small(line(" · ".join(filter(None, about)), 300)))
        versions = ", ".join(f"{name} {version}" for name, version in origin.versions.items())
        told = {"Command": origin.command, "Versions": versions, **origin.settings}
        yield element("details", title, facts({name: value for name, value in told.items() if value}, most))


def _listed(seeds: Sequence[int]) -> str:
    return line(", ".join(map(str, seeds)), 300)
