"""Monte Carlo tree search over reasoning steps (paper section 2.2), sans-I/O.

The search of one tree is a plain generator: it yields requests for generation or grading, and receives the answers. The same
core therefore runs in a test, over a continuously fed engine, over an endpoint or on a cluster. It knows no engine and no
task.
"""

from astro.search.best_of_n import sample_tree
from astro.search.core import Search, SearchConfig, last_step, search
from astro.search.requests import Expand, Grade, Graded, Sample, Simulate

__all__ = [
    "Expand",
    "Grade",
    "Graded",
    "Sample",
    "Search",
    "SearchConfig",
    "Simulate",
    "last_step",
    "sample_tree",
    "search",
]
