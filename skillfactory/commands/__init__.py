"""The commands by name: what each says of itself, its options, and the stage that it calls.

Stages are imported when their command is used, so that the overview costs nothing.
"""

from collections.abc import Mapping

from skillfactory.commands.base import Command, Result
from skillfactory.commands.data import DATA
from skillfactory.commands.models import MODELS
from skillfactory.commands.pages import PAGES

__all__ = ["COMMANDS", "Command", "Result"]

COMMANDS: Mapping[str, Command] = {**DATA, **MODELS, **PAGES}
