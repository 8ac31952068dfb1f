"""Measures of evaluated completions: pass@1, maj@k, intervals, behaviour, chains as graphs. Pure functions."""
