"""What an import of problem sets returns."""

from dataclasses import dataclass, field

from schemas.problems import Dropped, ImportMetrics
from schemas.records import Problem


@dataclass
class Imported:
    """Problem sets, and what was left out of them."""

    sets: dict[str, list[Problem]] = field(default_factory=dict)
    dropped: list[Dropped] = field(default_factory=list)

    def metrics(self) -> ImportMetrics:
        """How many were left out, by reason."""
        reasons: list[str] = [entry.reason for entry in self.dropped]
        return ImportMetrics(**{name: reasons.count(name) for name in ImportMetrics.model_fields})
