"""Runs on disk → the numbers and texts of a report. Studies and `skillfactory report` share it; it writes nothing."""
