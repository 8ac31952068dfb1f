"""The case tables. Each line is one case; its comment or source says where it comes from.

kinds.jsonl        by kind of answer, made for this project: right answers in other words, and near misses
notations.jsonl    by kind as well: notations that models and data sets use, and near misses of each
unseen.jsonl       by kind, written before any rule for them was touched: how well the rules did at first sight is in docs/log.md
statements.jsonl   responses without a box that state their answer, or only mention it; `extraction`: where it stands
graders.jsonl      from the tests and issues of other graders; "source" names them
math_verify.jsonl  the test suite of Math-Verify 0.9.0 (MIT licence), but for rows that only differ in an option
hacking.jsonl      responses that try to be rewarded
extraction.jsonl   responses and the answers in them

`correct` is what is right, or what the source says. `disputed`: this project decides otherwise, and why.
"""

import json
from pathlib import Path

FOLDER = Path(__file__).parent / "cases"


def table(name: str) -> list[dict]:
    """All cases of a table."""
    return [json.loads(line) for line in (FOLDER / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
