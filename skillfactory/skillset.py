"""The skills that ship, by name. The name is also the tag of their blocks in traces and responses."""

SKILLS: dict[str, str] = {
    "subgoals": "skillfactory.skills.subgoals:SUBGOALS",
}
