"""Ablations: each a parameter diff, run over several seeds as DVC experiments, and compared with the default in pairs.

    python -m astro.ablations list       # what there is, and what is done
    python -m astro.ablations run        # run what is missing, then the table; or: make ablations
    python -m astro.ablations table      # the table of what is there
    python -m astro.ablations keep       # what is done here as small files, to be committed: they count as done elsewhere

`--only NAME ...`, `--seeds 1 2 3` and `--file ablations.yaml` narrow or replace what is run.
"""
