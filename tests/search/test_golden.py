"""The search reproduces stored trees (recorded by `python -m tests.search.record`)."""

import json

import pytest

from tests.search.golden import CASES, FOLDER, remake


def stored(name: str) -> dict:
    return json.loads((FOLDER / f"tree_{name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", CASES)
def test_the_stored_tree_is_made_again(name):
    assert json.loads(json.dumps(remake(stored(name)))) == stored(name)


# what each stored tree is there to show
@pytest.mark.parametrize(
    ("name", "shows"),
    [
        ("solved", lambda n: n["verdict"] == "correct"),
        ("solved", lambda n: n["verdict"] == "wrong"),
        ("shallow", lambda n: n["terminal"] and n["depth"] == 2 and not n["rollouts"] and n["answer"] is None),
        ("dead_ends", lambda n: n["terminal"] and n["rollouts"] and n["reward"] > 0),  # closed, keeps its value
    ],
)
def test_the_stored_tree_shows_its_case(name, shows):
    assert any(shows(node) for node in stored(name)["tree"]["nodes"])
