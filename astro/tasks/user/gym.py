"""Tasks of reasoning-gym. Imported in workers alone: some of its scorers evaluate what a model wrote."""

from collections.abc import Mapping
from typing import Any

from astro.tasks.base import Task


def open_gym(name: str, options: Mapping[str, Any]) -> Task:
    """The task `name` of reasoning-gym; options: its configuration."""
    raise NotImplementedError(name, options)
