"""What can be checked of a run before it starts, without weights and without a GPU: shapes, memory, lengths, batches, disk.

`python -m astro.plan <profile> --dry-run` does it for a profile; `start` does the part of it that a stage is about to need.
"""

AFFECTS_RESULTS = False  # it only refuses
