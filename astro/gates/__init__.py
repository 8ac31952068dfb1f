"""Great Expectations suites over whole tables: a stage's data passes its gate or the pipeline stops.

require(check_trees(trees), Path("metrics/gates/trees.json"), Path("reports/data_docs"))
"""

from astro.gates.frames import plain_key
from astro.gates.gate import GateError, GateResult, require
from astro.gates.suites import check_problems, check_traces, check_trees

__all__ = ["GateError", "GateResult", "check_problems", "check_traces", "check_trees", "plain_key", "require"]
