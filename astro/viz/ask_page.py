"""The page of `astro ask --page`: answers to one problem with their graphs, and a search tree. One file that loads nothing."""

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from astro.viz.report import chain_view, environment, tree_item
from schemas.records import Completion, Problem, Tree

_TEMPLATES = Path(__file__).parent / "templates"


def render(problem: Problem, answers: Sequence[Completion], tree: Tree | None) -> str:
    """The page as one HTML string (UTF-8). tree: None: no search was requested."""
    return (
        environment()
        .get_template("answer.html.j2")
        .render(
            problem=problem,
            answers=[chain_view(answer, problem.question) for answer in answers],
            tree=tree_item(tree, {}) if tree else None,
            css=Markup((_TEMPLATES / "page.css").read_text(encoding="utf-8")),
        )
    )
