"""A chain of thought as a directed graph (as in the paper's analysis: node = step, edge = transition, back edge = backtrack).

Nodes are the indices of `Chain.nodes`. `PROBLEM` (-1) is the problem itself, the state before any step. Forward edges
alone form a tree with root `PROBLEM`, because each step continues one state. Back edges are jumps in that tree.
"""

from schemas.records import Chain

PROBLEM = -1
"""Node of the problem itself. It is the parent of a first step, and the target of a jump to the start."""


def path_to(chain: Chain, index: int) -> list[int]:
    """Indices of the steps from the first one to `index`, along parents; [] for `PROBLEM`."""
    path: list[int] = []
    while index != PROBLEM:
        path.append(index)
        index = _parent(chain, index)
    return path[::-1]


def steps_to(chain: Chain, index: int) -> tuple[str, ...]:
    """Texts of the steps from the problem to `index`. Two attempts are the same if these are equal."""
    return tuple(chain.nodes[i].text for i in path_to(chain, index))


def _parent(chain: Chain, index: int) -> int:
    """The parent of a step. It must come before the step, or walking up would not end."""
    if not 0 <= index < len(chain.nodes):
        raise ValueError(f"no step {index} in a chain of {len(chain.nodes)} steps")
    parent = chain.nodes[index].parent
    if not PROBLEM <= parent < index:
        raise ValueError(f"step {index} continues step {parent}, expected an earlier one or {PROBLEM}")
    return parent
