"""`skillfactory skills`: what many stored texts show of the skills; `docs/skill-usage.md` is the manual."""
