"""The page: complete, offline, escaped, deterministic, and no failure where a part of the run is missing."""

import random
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from astro.viz import report
from astro.viz.report import ReportData, render
from schemas.records import Problem
from tests.viz.example import make_completion, make_problem, make_report_data, make_tree

SECTIONS = [
    "headline",
    "results",
    "differences",
    "behaviour",
    "decisions",
    "training",
    "gallery",
    "trees",
    "stages",
    "params",
    "provenance",
    "definitions",
]
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
VOID = {"meta", "br", "img", "link", "input", "hr"}


class Page(HTMLParser):
    """Collects elements, and checks that every one is closed where it should be."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.stack: list[str] = []
        self.feed(html)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag


@pytest.fixture(scope="module")
def page() -> str:
    return render(make_report_data())


def test_every_section_is_there_and_linked(page):
    parsed = Page(page)
    assert [attrs["id"] for tag, attrs in parsed.elements if tag == "section"] == SECTIONS
    assert [attrs["href"] for tag, attrs in parsed.elements if tag == "a"] == [f"#{name}" for name in SECTIONS]
    assert "Not available" not in page


def test_nothing_comes_from_elsewhere(page):
    loading = {"src", "href", "xlink:href", "action", "data", "poster", "srcset"}
    for tag, attrs in Page(page).elements:
        assert tag not in {"link", "img", "iframe", "object", "embed", "base"}
        for name in loading & attrs.keys():
            assert (attrs[name] or "").startswith("#"), (tag, name, attrs[name])
    without_namespaces = re.sub(r'xmlns(:\w+)?="[^"]*"', "", page)
    assert not re.search(r"https?://|@import|url\((?!#)", without_namespaces)


def test_references_inside_the_plots_resolve_and_ids_are_unique(page):
    ids = re.findall(r'\sid="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', page)) <= set(ids)


def test_the_only_script_is_the_folding_one(page):
    assert [attrs for tag, attrs in Page(page).elements if tag == "script"] == [{}]
    assert not [a for _, attrs in Page(page).elements for a in attrs if a.startswith("on")]
    assert "script-src 'sha256-" in page


def test_model_text_is_data(data):
    problem = make_problem("x", 24, [4, 6, 8])
    done = make_completion(problem, "sft", seed=2, attempts=2, solve=True)
    first = done.chain.nodes[0].model_copy(update={"text": HOSTILE})
    chain = done.chain.model_copy(update={"nodes": [first, *done.chain.nodes[1:]]})
    done = done.model_copy(
        update={"text": HOSTILE + "\n" + done.text, "answer": HOSTILE, "chain": chain, "set": HOSTILE}
    )
    tree = make_tree(problem, seed=2)
    nodes = [node if node.index == 0 else node.model_copy(update={"text": HOSTILE}) for node in tree.nodes]
    question = Problem(id=HOSTILE, domain="countdown", question=HOSTILE, gold=HOSTILE, level=3, chance=None)
    sets = {HOSTILE: data.metrics.sets["numbers_3"]}
    hostile = replace(
        data,
        title=HOSTILE,
        metrics=data.metrics.model_copy(
            update={"sets": sets, "differences": {HOSTILE: data.metrics.differences["numbers_3"]}}
        ),
        gallery=[(question, done)],
        trees=[tree.model_copy(update={"nodes": nodes, "problem": question})],
        params={HOSTILE: HOSTILE, "run": {HOSTILE: HOSTILE}, "eval": {"majority": HOSTILE}},
        stage_metrics={HOSTILE: {HOSTILE: HOSTILE}},
    )
    page = render(hostile)
    parsed = Page(page)
    assert [attrs for tag, attrs in parsed.elements if tag == "script"] == [{}]
    assert not [tag for tag, _ in parsed.elements if tag == "img"]
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_same_input_same_bytes(page, data):
    random.seed(1)  # neither global randomness nor a second rendering in the same process changes anything
    assert render(data) == page
    assert not re.search(r"\b20\d\d-\d\d-\d\d", page)


def test_table_figures_equal_the_metrics(page, metrics):
    for models in metrics.sets.values():
        for values in models.values():
            one = values.pass_at_1
            cell = (
                f"<b>{100 * one.value:.1f}</b> [{100 * one.low:.1f}, {100 * one.high:.1f}] <small>n = {one.n}</small>"
            )
            assert cell in page
            first = values.first_attempt
            assert f"{100 * first.value:.1f} <small>[{100 * first.low:.1f}, {100 * first.high:.1f}]</small>" in page
    assert "\u22122.0, +4.2" in page  # a difference whose interval holds zero


def test_headline_says_when_a_difference_is_not_told_apart(data):
    metrics = data.metrics
    near = metrics.differences["numbers_4"][1].model_copy(update={"better": "grpo", "worse": "base"})
    page = render(replace(data, metrics=metrics.model_copy(update={"differences": {"numbers_3": [near]}})))
    assert "the interval holds zero" in page
    assert "the interval leaves zero out" not in page


def test_one_arrow_per_back_edge_of_the_gallery(page, data):
    assert page.count('<g class="back">') == sum(len(done.chain.back_edges) for _, done in data.gallery)


def test_an_empty_run_is_a_page_that_says_so():
    page = render(ReportData(title="nothing yet", metrics=None))
    parsed = Page(page)
    assert [attrs["id"] for tag, attrs in parsed.elements if tag == "section"] == SECTIONS
    assert (
        page.count("Not available") == len(SECTIONS) + 2 - 1 + 1
    )  # two plots of behaviour, three curves, no definitions


MISSING = [
    # what is missing, text that says so
    ({"curves": {}}, "no RL curve"),
    ({"curves": {"grpo": [{"step": 1.0, "reward": float("nan")}]}}, "no RL curve"),  # nothing finite to draw
    ({"gallery": ()}, "no chain"),
    ({"trees": ()}, "no search tree"),
    ({"params": {}}, "no params file"),
    ({"stage_metrics": {}}, "no metric of another stage"),
    ({"provenance": {}}, "no provenance record"),
]


@pytest.mark.parametrize(("change", "said"), MISSING)
def test_a_missing_part_is_said(data, change, said):
    assert f"Not available: this run has {said}." in render(replace(data, **change))


def test_a_curve_with_few_columns_draws_what_it_has(data):
    rows = [{"step": float(i), "reward": 0.1 * i} for i in range(5)]
    page = render(replace(data, curves={"grpo": rows}))
    assert "RL: reward" in page
    assert "RL: tokens per chain" not in page


def test_one_model_and_no_comparison(data):
    sets = {"only": {"base": data.metrics.sets["numbers_3"]["base"]}}
    page = render(replace(data, metrics=data.metrics.model_copy(update={"sets": sets, "differences": {}})))
    assert "no comparison" in page
    assert "29.1 %" in page


def test_a_large_run_stays_below_three_megabytes(data):
    problem = make_problem("p", 24, [3, 5, 7, 9])
    long = make_completion(problem, "sft", seed=4, attempts=120, solve=False)
    tree = make_tree(problem, seed=32)
    curve = [{"step": float(i), "loss": 1.0 + (i % 7) / 10, "reward": i / 20000} for i in range(20000)]
    large = replace(data, gallery=[(problem, long)] * 90, trees=[tree] * 90, curves=dict.fromkeys(data.curves, curve))
    page = render(large)
    assert len(page.encode()) < 3_000_000
    assert "more chains left out" in page
    assert "more trees left out" in page
    assert "more characters left out" in page


def test_a_deep_tree_is_no_recursion_error(data):
    tree = make_tree(make_problem("p", 24, [4, 6, 8]), seed=2)
    step = tree.nodes[1].model_copy(update={"terminal": False, "verdict": None, "visits": 1})
    nodes = [tree.nodes[0], *(step.model_copy(update={"index": i, "parent": i - 1, "depth": i}) for i in range(1, 400))]
    page = render(replace(data, trees=[tree.model_copy(update={"nodes": nodes})]))
    assert "319 more nodes" in page


def test_the_gallery_shows_at_least_one_item(data, monkeypatch):
    monkeypatch.setattr(report, "GALLERY_BYTES", 1)
    page = render(data)
    assert page.count('<svg class="graph"') == 1
    assert "3 more chains left out" in page
