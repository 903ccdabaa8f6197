"""Cognitive skills in text: what responses show of them, and how a skill is defined."""

from skillfactory.skills.shown import MAX_ATTEMPTS, Judge, Shown, shown

__all__ = ["MAX_ATTEMPTS", "Judge", "Shown", "shown"]
