"""Builders of small real records. Chains are written as tables of (text, parent, marks)."""

import pytest

from schemas.records import Chain, ChainNode, Completion


def _node(text, parent, marks=""):
    """marks: R / W an attempt ends here right / wrong; ! illegal step; y / n the chain claims it is right / is not."""
    return ChainNode(
        text=text,
        parent=parent,
        valid="!" not in marks,
        ends="R" in marks or "W" in marks,
        right=True if "R" in marks else False if "W" in marks else None,
        claim=True if "y" in marks else False if "n" in marks else None,
    )


def _chain(*rows, back=(), attempts=None, repeats=0, unparsed=0):
    """attempts: by default each step that ends one, once."""
    nodes = [_node(*row) for row in rows]
    ends = [i for i, node in enumerate(nodes) if node.ends]
    return Chain(
        nodes=nodes,
        back_edges=list(back),
        attempts=ends if attempts is None else attempts,
        repeats=repeats,
        unparsed=unparsed,
    )


def _completion(verdict="correct", answer="x", *, problem="p", sample=0, model="sft", tokens=10, finished=True, **rest):
    return Completion(
        model=model,
        set=rest.pop("set", "easy"),
        problem_id=problem,
        sample=sample,
        text="",
        tokens=tokens,
        finished=finished,
        answer=answer,
        verdict=verdict,
        chain=rest.pop("chain", None) or _chain(),
        **rest,
    )


@pytest.fixture
def chain():
    return _chain


@pytest.fixture
def completion():
    return _completion
