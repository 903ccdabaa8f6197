"""The commands that train and measure models."""

from collections.abc import Mapping

from skillfactory.commands.base import Command

MODELS: Mapping[str, Command] = {}
