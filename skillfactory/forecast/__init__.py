"""What work would cost before it is done: steps, tokens, memory by part and hours on a named GPU, from arithmetic alone.

Nothing heavy is loaded and no GPU is asked. `docs/planning.md` says how good the figures are.
"""
