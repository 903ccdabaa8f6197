"""The commands that show and compare what others have made, and the one that looks at the machine."""

from collections.abc import Iterator, Mapping
from typing import Any

from skillfactory.commands.base import Command, Result
from skillfactory.progress import Progress


def _compare_config() -> type[Any]:
    from skillfactory.comparing import CompareConfig

    return CompareConfig


def _compare(config: Any, progress: Progress) -> Result:
    from skillfactory.comparing import compare

    return compare(config)


def _show_compare(compared: Any) -> Iterator[str]:
    yield from str(compared).splitlines()


def _report_config() -> type[Any]:
    from skillfactory.gathering import ReportConfig

    return ReportConfig


def _report(config: Any, progress: Progress) -> Result:
    from skillfactory.gathering import report

    return report(config, progress)


def _show_report(written: Any) -> Iterator[str]:
    yield from str(written).splitlines()


def _view_config() -> type[Any]:
    from skillfactory.view import ViewConfig

    return ViewConfig


def _view(config: Any, progress: Progress) -> Result:
    from skillfactory.view import view

    return view(config, progress)


def _show_view(viewed: Any) -> Iterator[str]:
    yield f"looked at: {', '.join(viewed.runs)}"


def _tokens_config() -> type[Any]:
    from skillfactory.view.tokens import TokensConfig

    return TokensConfig


def _tokens(config: Any, progress: Progress) -> Result:
    from skillfactory.view.tokens import tokens

    return tokens(config, progress)


def _show_tokens(shown: Any) -> Iterator[str]:
    yield str(shown)


def _doctor_config() -> type[Any]:
    from skillfactory.doctor import DoctorConfig

    return DoctorConfig


def _doctor(config: Any, progress: Progress) -> Result:
    from skillfactory.doctor import examine

    return examine(config)


PAGES: Mapping[str, Command] = {
    "compare": Command(
        summary="hold evaluations against each other, over the same questions",
        description="Compares runs of `evaluate`: a table of accuracy with 95 % intervals, arms by groups of questions; paired "
        "differences over the questions that all have answered, with intervals, ratios, and p-values corrected for the number "
        "of comparisons; the differences in tokens and answers per response; and the questions that an arm wins and loses. "
        "Runs of one label are seeds of one arm; a study's folder gives all its arms and seeds. Says where runs were asked "
        "different questions, or asked differently.",
        example="skillfactory compare base-eval sft-eval\n"
        "skillfactory compare base=base-eval rl=rl-0,rl-1,rl-2 ours=ours-0,ours-1,ours-2 --all-pairs --output compared\n"
        "skillfactory compare runs/demo --baseline rl --groups 'mean harder'",
        resume="Nothing was changed; the same command begins anew.",
        config=_compare_config,
        run=_compare,
        show=_show_compare,
    ),
    "report": Command(
        summary="write one page that shows what runs came to",
        description="Writes a self-contained HTML page on any runs of ours: what each stage kept and dropped and why, accuracy "
        "with intervals, skills, lengths, training curves, accuracy against tokens, time and tokens, settings and versions, "
        "and responses to be read, ten of each class such as right after a retry, or cut off. It needs no network and no "
        "scripts. A study's folder alone gives the study's own page anew; runs of one label are seeds of one arm.",
        example="skillfactory report runs/demo --output demo.html\nskillfactory report run traces sft grpo grpo-eval\n"
        "skillfactory report base=base-eval ours=ours-0,ours-1,ours-2",
        resume="Nothing was changed; the same command begins anew.",
        config=_report_config,
        run=_report,
        show=_show_report,
    ),
    "view": Command(
        summary="look at attempts, traces and responses in a browser",
        description="Serves pages on this machine alone (127.0.0.1) to browse what runs hold: questions, attempts, "
        "reflections, traces, responses, drops. Lists can be narrowed by task, level, layout, correctness, verdict, reason "
        "and text; a trace leads to the attempts that it is made of and back; two runs stand side by side. An index of each "
        "run is made the first time, and kept in the user's cache; runs themselves are only read. Ctrl-C ends it.",
        example="skillfactory view run traces\nskillfactory view runs/demo --port 0 --open\n"
        "skillfactory view before=sft-eval after=grpo-eval",
        resume="Nothing was changed; an index under way is made anew.",
        config=_view_config,
        run=_view,
        show=_show_view,
    ),
    "tokens": Command(
        summary="write a page that shows which tokens of a trace are learnt",
        description="Writes a self-contained HTML page of a few traces as `sft` would learn them: every token with whether it "
        "bears loss, is silenced by the mask, or is context, and how many there are of each.",
        example="skillfactory tokens traces --output tokens.html\n"
        "skillfactory tokens traces --model Qwen/Qwen2.5-1.5B-Instruct --mask wrong --n 5 --output tokens.html",
        resume="Nothing was changed; the same command begins anew.",
        config=_tokens_config,
        run=_tokens,
        show=_show_tokens,
    ),
    "doctor": Command(
        summary="what is installed, which hand-offs fit, and what would go wrong",
        description="Prints the versions of what SkillFactory and the trainers beside it use, GPUs, memory and disk; which "
        "export targets fit the installed versions, and with which they were checked; and what would go wrong, each with its "
        "remedy. It changes nothing, loads no heavy library, and ends with exit code 0 whatever it finds.",
        example="skillfactory doctor\nskillfactory doctor /data/runs --json",
        resume="",
        config=_doctor_config,
        run=_doctor,
        show=lambda found: str(found).splitlines(),
    ),
}
