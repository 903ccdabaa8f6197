"""The command line: one subcommand per stage, its flags generated from the stage's configuration.

Results go to stdout, everything else to stderr. Exit codes: 0 done; 1 a bug of ours, with its traceback; 2 something that
the user can mend, in one message; 130 stopped with Ctrl-C.
"""

import argparse
import json
import os
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml

from skillfactory import __version__
from skillfactory.commands import COMMANDS, Command, Result
from skillfactory.config import add_arguments, construct, dump, given, options, read_recipe
from skillfactory.errors import ConfigError, SkillFactoryError, unknown
from skillfactory.progress import Bars, Progress, Silent
from skillfactory.values import is_many, on_this_machine

_ABOUT = "Silver traces that teach a language model cognitive skills, made from its own rearranged attempts."


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code of the command line `argv` (the process's own if None).

    Modules that options name as `module:object` are found in the current folder too, after the installed ones.
    """
    if not {"", str(Path.cwd())} & set(sys.path):  # the console script's path lacks it; `python -m` has it
        sys.path.append(str(Path.cwd()))
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = arguments[0] if arguments else ""
    try:
        if name in COMMANDS:
            return _run(name, COMMANDS[name], arguments[1:])
        return _overview(arguments)
    except SkillFactoryError as error:
        return _complain(name, str(error), 2)
    except KeyboardInterrupt:
        return _complain(name, f"stopped. {COMMANDS[name].resume if name in COMMANDS else ''}".strip(), 130)
    except BrokenPipeError:  # the reader of our output, such as `head`, has what it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.filename is None:
            raise
        return _complain(name, f"{error.filename}: {error.strerror}", 2)


def parser(name: str, command: Command, config_type: type[Any]) -> argparse.ArgumentParser:
    """The argument parser of a subcommand, which its help is printed from."""
    bare = [option for option in options(config_type) if option.positional]
    places = "".join(f" {option.metavar}..." if is_many(option.setting.kind) else f" [{option.metavar}]" for option in bare)
    made = _Parser(
        prog=f"skillfactory {name}",
        usage=f"skillfactory {name}{places} [OPTIONS]",
        description=textwrap.fill(command.description, 100),
        epilog=_pairs(command) + "examples:\n" + textwrap.indent(command.example.strip(), "  "),
        formatter_class=_Wide,
        allow_abbrev=False,
    )
    add_arguments(made, config_type)
    group = made.add_argument_group("every command")
    group.add_argument("--recipe", metavar="FILE", help=f"YAML file with options under '{name}:'; flags override it")
    group.add_argument("--show-recipe", action="store_true", help="print the effective options as a recipe, and stop")
    group.add_argument("--json", action="store_true", help="print the summary as JSON on stdout (tasks: JSON lines)")
    bars = group.add_mutually_exclusive_group()
    bars.add_argument("--progress", action="store_true", help="show progress bars even where stderr is no terminal")
    bars.add_argument("--quiet", action="store_true", help="show no progress bars")
    return made


def _pairs(command: Command) -> str:
    """What the KEY=VALUE options of a command may hold."""
    text = ""
    for title, config_type in command.pairs().items():
        lines = [f"  {option.key[0]:<20}  {option.text}" for option in options(config_type)]
        text += f"{title}:\n" + "\n".join(lines) + "\n\n"
    return text


class _Wide(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30, width=min(110, shutil.get_terminal_size((110, 24)).columns))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Raises the message as an error of the configuration, which `main` prints."""
        raise ConfigError(f"{message} (see {self.prog} --help)")


def _run(name: str, command: Command, arguments: Sequence[str]) -> int:
    """Reads the options of a subcommand and runs it."""
    config_type = command.config()
    made = parser(name, command, config_type)
    space, rest = made.parse_known_args(arguments)
    if rest:
        raise _unexpected(next((argument for argument in rest if argument.startswith("-")), rest[0]), made)
    file = on_this_machine(space.recipe, "--recipe") if space.recipe else None
    recipe = read_recipe(file, name, config_type, COMMANDS) if file else {}
    config = construct(config_type, recipe, given(space, config_type))
    if space.show_recipe:
        sys.stdout.write(yaml.safe_dump({name: dump(config)}, sort_keys=False))
        return 0
    wanted = space.progress or (sys.stderr.isatty() and not space.quiet)
    progress: Progress = Bars() if wanted else Silent()
    try:
        result = command.run(config, progress)
    finally:
        progress.end()
    if space.json:
        _print_json(result)
    else:
        for line in command.show(result):
            print(line)
    sys.stdout.flush()
    return 0


def _overview(arguments: Sequence[str]) -> int:
    """Prints the list of commands, or refuses what is none."""
    lines = [f"  {name:<8} {command.summary}" for name, command in COMMANDS.items()]
    made = _Parser(
        prog="skillfactory",
        description=_ABOUT,
        usage="skillfactory COMMAND [OPTIONS]",
        epilog="commands:\n" + "\n".join(lines) + "\n\n'skillfactory COMMAND --help' tells all about one.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--version", action="version", version=f"skillfactory {__version__}")
    if arguments and not arguments[0].startswith("-"):
        raise unknown("command", arguments[0], COMMANDS)
    made.parse_args(arguments)
    made.print_help()
    return 0


def _unexpected(argument: str, made: argparse.ArgumentParser) -> ConfigError:
    """An error for an argument that no option takes."""
    if argument.startswith("-"):
        flags = [flag for action in made._actions for flag in action.option_strings]
        return unknown("option", argument.partition("=")[0], flags)
    return ConfigError(f"'{argument}' is one argument too many; bare arguments stand together (see {made.prog} --help)")


def _print_json(result: Result) -> None:
    """Prints a summary as one JSON value, or rows as JSON lines."""
    if isinstance(result, Iterator):
        for item in result:
            print(json.dumps(item, ensure_ascii=False))
    else:
        print(json.dumps(result.to_dict(), ensure_ascii=False, indent=2))


def _complain(name: str, message: str, code: int) -> int:
    print(f"skillfactory {name}: {message}" if name in COMMANDS else f"skillfactory: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
