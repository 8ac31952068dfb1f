"""Validation of whole tables with Great Expectations suites: a stage's data passes its gate, or the pipeline stops.

require(check_trees(trees), Path("metrics/gates/trees.json"), Path("reports/data_docs"))
"""

from astro.validation.gate import GateError, GateResult, require
from astro.validation.record_tables import plain_key
from astro.validation.suites import check_problems, check_traces, check_trees

__all__ = ["GateError", "GateResult", "check_problems", "check_traces", "check_trees", "plain_key", "require"]
