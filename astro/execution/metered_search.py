"""A search at test time that records how many tokens it had spent when the first correct solution appeared."""

from pydantic import Field

from astro.evaluation.compute_matched import Ledger, first_found, metered
from astro.execution.problem_jobs import SearchJobs
from astro.execution.scheduler import Job
from schemas.base import Strict
from schemas.records import Problem, Tree


class Searched(Strict):
    """The search tree of a problem, with its cost."""

    tree: Tree
    found: int | None = Field(description="tokens generated when the first correct solution appeared; None: none did")


class MeteredSearchJobs(SearchJobs):
    """As `SearchJobs`, but the job returns `Searched`."""

    def _job(self, problem: Problem) -> Job:
        ledger = Ledger()
        tree = yield from self.searched(problem, metered(self.search(problem), ledger))
        return Searched(tree=tree, found=first_found(tree, ledger))
