"""Answer grading: correct | wrong | unparseable prediction | unparseable gold, isolated from the caller.

    from astro.verify import grade, grade_answer, grade_batch
    grade("\\\\frac{1}{2}", "... so the answer is \\\\boxed{0.5}.").verdict   # "correct"
    grade_batch([(gold, response), ...], responses=True)                    # in order, on all cores

Callable from any thread and any process. What is accepted and what is not: docs/grading.md.
"""

from astro.verify.api import Pool, default_pool, gold_parses, grade, grade_answer, grade_batch
from astro.verify.compare import Grade
from astro.verify.extract import extract

__all__ = ["Grade", "Pool", "default_pool", "extract", "gold_parses", "grade", "grade_answer", "grade_batch"]
