"""A builder of small search trees, and the task's callables that the cloning functions are handed."""

from astro.tasks.countdown.task import Countdown
from schemas.records import Node, Problem, Tree

TASK = Countdown()
PROBLEM = Problem(id="p", task="countdown", question="make 24 from 2 3 4", gold="24", level=3, chance=None)


def tree(*rows, problem: Problem = PROBLEM) -> Tree:
    """A tree of rows (parent, text, marks), index 1 onward. marks: C / W / U / G grade a terminal node (correct, wrong,
    unparseable prediction / gold), =x its answer (default: the text), q0.5 its value (default 0)."""
    nodes = [make(0, -1, 0, "", "")]
    for index, (parent, text, *marks) in enumerate(rows, 1):
        nodes.append(make(index, parent, nodes[parent].depth + 1, text, marks[0] if marks else ""))
    return Tree(problem=problem, nodes=nodes, iterations=1, requests=1, tokens=1)


def make(index: int, parent: int, depth: int, text: str, marks: str) -> Node:
    parts = marks.split()
    grades = {"C": "correct", "W": "wrong", "U": "unparseable_prediction", "G": "unparseable_gold"}
    verdict = next((grades[p] for p in parts if p in grades), None)
    answer = next((p[1:] for p in parts if p[0] == "="), text) if verdict else None
    return Node(
        index=index,
        parent=parent,
        depth=depth,
        text=text,
        prior=1.0,
        visits=1,
        q=next((float(p[1:]) for p in parts if p[0] == "q"), 0.0),
        reward=0.0,
        terminal=verdict is not None,
        answer=None if verdict == "unparseable_prediction" else answer,
        verdict=verdict,
        rollouts=[],
    )


# Two first steps. Below the first: the right end 3 and the wrong ends 4 and 5; below the second: the wrong end 6, and 7
# with the same answer as 4.
GAME = tree(
    (0, "2 * 3 = 6 left 4 6", "q0.7"),
    (0, "2 + 3 = 5 left 4 5", "q0.2"),
    (1, "6 * 4 = 24 make 24 got 24 yes answer 2 * 3 * 4", "C =2*3*4 q1"),
    (1, "6 + 4 = 10 make 24 got 10 no answer 2 * 3 + 4", "W =2*3+4"),
    (1, "6 - 4 = 2 make 24 got 2 no answer 2 * 3 - 4", "W =2*3-4"),
    (2, "5 * 4 = 20 make 24 got 20 no answer ( 2 + 3 ) * 4", "W =(2+3)*4"),
    (2, "5 + 4 = 9 make 24 got 9 no answer 2 * 3 + 4", "W =2*3+4"),
)
