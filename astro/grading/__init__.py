"""Answer grading: correct | wrong | unparseable prediction | unparseable gold, isolated from the caller.

    from astro.grading import grade, grade_answer, grade_batch
    grade("\\\\frac{1}{2}", "... so the answer is \\\\boxed{0.5}.").verdict   # "correct"
    grade_batch([(gold, response), ...], responses=True)                    # in order, on all cores

Callable from any thread and any process. What is accepted and what is not: docs/grading.md. An answer that overruns the limits
of a worker is not correct. A machine that lets no grading end is a `GraderFault`, and never a verdict.
"""

from astro.grading.api import Pool, default_pool, gold_faults, gold_parses, grade, grade_answer, grade_batch
from astro.grading.compare import Grade
from astro.grading.extract import extract
from astro.grading.processes import GraderFault

__all__ = [
    "Grade",
    "GraderFault",
    "Pool",
    "default_pool",
    "extract",
    "gold_faults",
    "gold_parses",
    "grade",
    "grade_answer",
    "grade_batch",
]
