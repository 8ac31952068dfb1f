"""Checks of a run before it starts, without weights and without a GPU: shapes, memory, lengths, batches, disk.

`python -m astro.plan <profile> --dry-run` checks a profile. `start` runs the checks that a stage needs when it starts.
"""

AFFECTS_RESULTS = False  # it can only refuse
