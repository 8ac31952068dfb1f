"""Monte-Carlo tree search over reasoning steps (paper section 2.2), sans-I/O.

One tree's search is a plain generator: it yields the generations it needs and is sent their samples, so the same core
runs under a test, over a continuously fed engine, over an endpoint or on a cluster. It knows no engine and no domain.
"""

from astro.search.core import Search, SearchConfig, last_step, search
from astro.search.requests import Expand, Sample, Simulate
from astro.search.sampling import sample_tree

__all__ = ["Expand", "Sample", "Search", "SearchConfig", "Simulate", "last_step", "sample_tree", "search"]
