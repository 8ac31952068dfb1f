"""The stages: one script each, run as `python -m stages.<name>`."""

import os

from astro.process import die_with_parent

# Before all other imports, so that no orphan is left even if DVC is killed while a stage loads.
if os.environ.get("DVC_STAGE"):
    die_with_parent()
