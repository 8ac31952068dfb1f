"""Countdown: make a target from a few numbers. Steps and answers are checked exactly; problems and a corpus are generated
here."""
