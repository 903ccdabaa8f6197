"""SkillFactory: teach a language model cognitive skills from its own rearranged attempts.

The method is that of arXiv 2512.04072. Importing this package loads no model library.
"""

__version__ = "0.1.0"
