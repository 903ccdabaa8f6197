"""Prints docs/cli.md, the reference of the command line, from the commands themselves; a test compares the two."""

from skillfactory.commands import COMMANDS, Command
from skillfactory.config import Option, options

HEAD = """# The command line

Written by `make docs` from what `skillfactory COMMAND --help` says.

Every command also takes `--recipe FILE` (a YAML file with options under the command's name; flags override it), `--show-recipe`
(prints the effective options as such a file, and stops), `--json` (the summary as JSON on stdout;
the rows of `tasks` as JSON lines), `--progress` and `--quiet`.

A recipe's keys are the names of the flags, with `_` for `-`; `--show-recipe` groups some of them (`generation:`,
`wanted:` …), which means the same. A text that begins with `*` must be quoted: `layout: '*C_full'`.

Results go to stdout, everything else to stderr. Exit codes: 0 done, 1 a bug of ours with its traceback, 2 something that you
can mend, 130 stopped with Ctrl-C. Values of a repeatable option may also be separated by commas, KEY=VALUE pairs excepted.

Code of your own is named as `module:object`. The module is looked for among the installed packages and in the current folder.
"""


def row(option: Option) -> str:
    """One line of a command's table."""
    return f"| `{option.spelled}` | {option.help.replace('|', chr(92) + '|')} |"


def section(name: str, command: Command) -> str:
    """One command: what it does, its options, examples."""
    rows = "\n".join(row(option) for option in options(command.config()))
    for title, config_type in command.pairs().items():
        pairs = (f"| `{option.key[0]}` | {option.text} |" for option in options(config_type))
        rows += f"\n\n| {title.replace('--engine-option', '`--engine-option`')} | what it does |\n|---|---|\n" + "\n".join(
            pairs
        )
    example = "\n".join("    " + line for line in command.example.splitlines())
    return f"## skillfactory {name}\n\n{command.description}\n\n| option | what it does |\n|---|---|\n{rows}\n\n{example}\n"


if __name__ == "__main__":
    print("\n".join([HEAD, *(section(name, command) for name, command in COMMANDS.items())]), end="")
