"""A search whose spending is noted: when was the first correct solution there?"""

from pydantic import Field

from astro.evaluation.compute_matched import Ledger, first_found, metered
from astro.execution.problem_jobs import SearchJobs
from astro.execution.scheduler import Job
from schemas.base import Strict
from schemas.records import Problem, Tree


class Searched(Strict):
    """The tree that a model made of a problem at test time."""

    tree: Tree
    found: int | None = Field(description="tokens generated when the first correct solution was there; None: never")


class MeteredSearchJobs(SearchJobs):
    """As `SearchJobs`; the job returns `Searched`."""

    def _job(self, problem: Problem) -> Job:
        ledger = Ledger()
        tree = yield from self.searched(problem, metered(self.search(problem), ledger))
        return Searched(tree=tree, found=first_found(tree, ledger))
