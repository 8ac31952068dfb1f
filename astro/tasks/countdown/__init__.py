"""Countdown: make a target from a few numbers. Exact steps, exact grading, problems and a corpus generated here."""
