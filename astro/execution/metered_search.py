"""A search at test time that records how many tokens it had spent when the first correct solution appeared."""

from pydantic import Field

from astro.evaluation.compute_matched import Ledger, first_found, metered
from astro.execution.scheduler import Job
from astro.execution.search_and_sample_jobs import SearchJobs
from schemas.records import Problem, Tree
from schemas.strict import Strict


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
