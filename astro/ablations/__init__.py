"""Ablations: parameter changes, each run over several seeds as DVC experiments and compared with the default in pairs.

    python -m astro.ablations list       # all ablations and their state
    python -m astro.ablations run        # run what is missing, then write the table; or: make ablations
    python -m astro.ablations table      # write the table of the existing runs
    python -m astro.ablations keep       # store finished runs as small files to commit, so that they count as done elsewhere

`--only NAME ...`, `--seeds 1 2 3` and `--file ablations.yaml` select what is run.
"""
