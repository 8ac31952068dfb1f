"""The stages: one script each, run as `python -m stages.<name>`."""

import os

from astro.runtime import die_with_parent

# First of all imports: a DVC that is killed while a stage is still loading leaves no orphan either.
if os.environ.get("DVC_STAGE"):
    die_with_parent()
