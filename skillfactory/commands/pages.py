"""The commands that show and compare what others have made."""

from collections.abc import Mapping

from skillfactory.commands.base import Command

PAGES: Mapping[str, Command] = {}
