"""A chain of thought as a directed graph (paper's analysis: node = step, edge = transition, back edge = backtrack).

Nodes are the indices of `Chain.nodes`; `PROBLEM` (-1) stands for the problem itself, the state before any step.
Forward edges alone form a tree rooted at `PROBLEM`: each step continues one state. Back edges are jumps in that tree.
"""

from typing import Literal, NamedTuple

from schemas.records import Chain

PROBLEM = -1
"""Node of the problem itself; `ChainNode.parent` of a step that continues it, and target of a jump to the start."""

DOT_COLOURS = {True: "#2e7d32", False: "#c62828", None: "#607d8b"}
"""Outline by `ChainNode.right`: the attempt solves the problem, it does not, no attempt ends here."""


class Edge(NamedTuple):
    """One transition of the chain."""

    source: int
    target: int
    kind: Literal["forward", "back"]


def edges(chain: Chain) -> list[Edge]:
    """All transitions in the order in which the chain writes them.

    A forward edge leads from the state a step continues to the step; a back edge is a jump.
    Raises ValueError on an edge to a node that is not there.
    """
    found: list[Edge] = []
    jumps = list(chain.back_edges)
    for source, target in jumps:
        for end in (source, target):
            if not PROBLEM <= end < len(chain.nodes):
                raise ValueError(f"back edge {(source, target)}: no step {end} in a chain of {len(chain.nodes)}")
    done = 0
    for index in range(len(chain.nodes)):
        # From the newest step only a jump leads to an older one, so the next jump, if it leaves an older step than
        # `index`, was written before `index`. It need not leave the step just before: after a repeated attempt, a jump
        # leaves a step written long ago.
        while done < len(jumps) and jumps[done][0] < index:
            found.append(Edge(*jumps[done], "back"))
            done += 1
        found.append(Edge(_parent(chain, index), index, "forward"))
    return found + [Edge(*jump, "back") for jump in jumps[done:]]


def path_to(chain: Chain, index: int) -> list[int]:
    """Indices of the steps from the first one to `index`, along parents; [] for `PROBLEM`."""
    path: list[int] = []
    while index != PROBLEM:
        path.append(index)
        index = _parent(chain, index)
    return path[::-1]


def steps_to(chain: Chain, index: int) -> tuple[str, ...]:
    """Texts of the steps from the problem to `index`: two attempts are the same attempt when these are equal."""
    return tuple(chain.nodes[i].text for i in path_to(chain, index))


def depths(chain: Chain) -> list[int]:
    """(nodes,) steps from the problem to each node, itself included: 1 for a step that continues the problem."""
    found: list[int] = []
    for index in range(len(chain.nodes)):
        parent = _parent(chain, index)
        found.append(1 if parent == PROBLEM else found[parent] + 1)
    return found


def children(chain: Chain) -> dict[int, list[int]]:
    """Node (`PROBLEM` included) -> the steps that continue it, in order; nodes that nothing continues are left out."""
    found: dict[int, list[int]] = {}
    for index in range(len(chain.nodes)):
        found.setdefault(_parent(chain, index), []).append(index)
    return found


def to_dot(chain: Chain, *, title: str = "problem") -> str:
    """Graphviz text of the chain.

    title: label of the problem's node, e.g. its question.

    Green and red outlines: attempts that end right and wrong; dashed outlines: illegal steps; dashed arrows: jumps,
    numbered in order.
    """
    lines = ["digraph chain {", "  rankdir=TB;", "  node [shape=box, fontname=monospace];"]
    lines.append(f"  problem [shape=ellipse, label={_quoted(title)}];")
    for index, node in enumerate(chain.nodes):
        style = "solid" if node.valid else "dashed"
        width = 2 if node.ends else 1
        lines.append(
            f"  n{index} [label={_quoted(node.text)}, color={_quoted(DOT_COLOURS[node.right])}, "
            f"style={style}, penwidth={width}];"
        )
    jumps = 0
    for edge in edges(chain):
        drawn = f"  {_dot_name(edge.source)} -> {_dot_name(edge.target)}"
        if edge.kind == "back":
            jumps += 1
            # constraint=false: a jump must not pull its target below its source.
            drawn += f' [style=dashed, color="#ef6c00", constraint=false, label="{jumps}"]'
        lines.append(drawn + ";")
    return "\n".join([*lines, "}"]) + "\n"


def _parent(chain: Chain, index: int) -> int:
    """Parent of a step, which must come before it: else walking up would not end."""
    if not 0 <= index < len(chain.nodes):
        raise ValueError(f"no step {index} in a chain of {len(chain.nodes)}")
    parent = chain.nodes[index].parent
    if not PROBLEM <= parent < index:
        raise ValueError(f"step {index} continues step {parent}, expected an earlier one or {PROBLEM}")
    return parent


def _dot_name(index: int) -> str:
    return "problem" if index == PROBLEM else f"n{index}"


def _quoted(text: str) -> str:
    """A quoted Graphviz string; model text may hold anything."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\r", "").replace("\n", "\\n")
    return f'"{escaped}"'
