"""Training, thin over TRL: `sft.py` learns traces, `grpo.py` reinforces.

Each leaves a model folder that says what it was made from, and goes on where it was after a kill.
"""
