"""A search whose spending is noted: when was the first correct solution there?"""

from dataclasses import dataclass

from astro.engines.feed import Job
from astro.engines.searches import SearchTask, rendered
from astro.evaluation.budget import Ledger, first_found, metered
from schemas.records import Problem


@dataclass(frozen=True)
class MeteredSearchTask(SearchTask):
    """As `SearchTask`; the job returns (tree, tokens generated when its first correct solution was there; None: never)."""

    def __call__(self, problem: Problem) -> tuple[str, Job]:
        """As `Task`."""
        return problem.id, self._metered(problem)

    def _metered(self, problem: Problem) -> Job:
        ledger = Ledger()
        counted = metered(self.search(problem), ledger)
        tree = yield from rendered(counted, lambda wanted: self.request(problem, wanted))
        return tree, first_found(tree, ledger)
