"""The page: complete, offline, escaped, deterministic, and no failure where a part of the run is missing."""

import html
import random
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from astro.viz import plots, report
from astro.viz.chain_selection import Example
from astro.viz.labels import MINUS
from astro.viz.report import ReportData, render
from schemas.records import Problem, Segment
from tests.viz.example import (
    make_completion,
    make_problem,
    make_report_data,
    make_rl_metrics,
    make_trace,
    make_tree,
)

SECTIONS = [
    "headline",
    "results",
    "differences",
    "tokens",
    "calibration",
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

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.stack: list[str] = []
        self.feed(text)
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


DRAWN: dict[str, object] = {}


@pytest.fixture(autouse=True)
def drawn_once(monkeypatch):
    """The same picture is drawn once for all tests: most of them render a page that differs in one place."""
    for name in ("scores", "differences", "by_backtracks", "by_attempt", "training", "equal_tokens"):
        draw = getattr(plots, name)

        def remembered(*args, name=name, draw=draw):
            key = f"{name} {args!r}"
            if key not in DRAWN:
                DRAWN[key] = draw(*args)
            return DRAWN[key]

        monkeypatch.setattr(plots, name, remembered)


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
    assert not re.search(r"https?://|src=|@import|url\((?!#)", without_namespaces)


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
    curves = [curve.model_copy(update={"label": HOSTILE}) for curve in data.metrics.budgets["numbers_3"]]
    rows = [
        row.model_copy(update={"better": HOSTILE, "worse": HOSTILE}) for row in data.metrics.equal_tokens["numbers_3"]
    ]
    models = data.metrics.sets["numbers_3"]
    tree = make_tree(problem, seed=2)
    nodes = [node if node.index == 0 else node.model_copy(update={"text": HOSTILE}) for node in tree.nodes]
    pieces = [Segment(text=HOSTILE + "\n" + HOSTILE, kind=k, node=None) for k in ("step", "wrong_step", "return")]
    trace = make_trace(make_tree(make_problem("y", 24, [3, 5, 7, 9]), seed=3), backtracks=1).model_copy(
        update={"id": HOSTILE, "problem_id": HOSTILE, "segments": pieces}
    )
    question = Problem(id=HOSTILE, task="countdown", question=HOSTILE, gold=HOSTILE, level=3, chance=None)
    pairs = [
        pair.model_copy(update={"better": HOSTILE, "worse": HOSTILE}) for pair in data.metrics.differences["numbers_3"]
    ]
    hostile = replace(
        data,
        title=HOSTILE,
        metrics=data.metrics.model_copy(
            update={
                "sets": {HOSTILE: {**models, HOSTILE: models["grpo"]}},
                "differences": {HOSTILE: [*pairs, *data.metrics.differences["numbers_3"]]},
                "budgets": {HOSTILE: curves},
                "equal_tokens": {HOSTILE: rows},
            }
        ),
        gallery=[Example(question, done, done)],
        trees=[tree.model_copy(update={"nodes": nodes, "problem": question})],
        traces={HOSTILE: trace},
        params={HOSTILE: HOSTILE, "run": {HOSTILE: HOSTILE}, "eval": {"majority": HOSTILE}},
        stage_metrics={HOSTILE: {HOSTILE: HOSTILE}, "grpo": {"steps": HOSTILE}},
    )
    page = render(hostile)
    parsed = Page(page)
    assert [attrs for tag, attrs in parsed.elements if tag == "script"] == [{}]
    assert not [tag for tag, _ in parsed.elements if tag == "img"]
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert words(section(page, "trees")).count("alert(1)") == len(nodes) + 2 + 1 + 6  # question, two ids, the chain


def test_same_input_same_bytes(page, data):
    DRAWN.clear()
    random.seed(1)  # neither global randomness nor a second rendering in the same process changes anything
    assert render(data) == page
    assert not re.search(r"\b20\d\d-\d\d-\d\d", page)


def section(page: str, name: str) -> str:
    """One section's markup."""
    return re.search(rf'<section id="{name}">.*?</section>', page, re.DOTALL)[0]


def words(markup: str) -> str:
    """What a reader sees of it, but for pictures, spaces made one."""
    text = re.sub(r"<svg.*?</svg>", "", markup, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", text)).split())


def rows(markup: str) -> list[list[str]]:
    """Cells of the table rows in a piece of the page, header rows left out."""
    found = re.findall(r"<tr[^>]*>(.*?)</tr>", "".join(re.findall(r"<tbody>.*?</tbody>", markup, re.DOTALL)), re.DOTALL)
    return [[words(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)] for row in found]


def share(value) -> str:
    return f"{100 * value.value:.1f} [{100 * value.low:.1f}, {100 * value.high:.1f}]"


def change(value) -> str:
    return f"{100 * value.value:+.1f} [{100 * value.low:+.1f}, {100 * value.high:+.1f}]".replace("-", "\u2212")


def with_metrics(data: ReportData, **update) -> ReportData:
    return replace(data, metrics=data.metrics.model_copy(update=update))


LABELS = {
    "base": "base",
    "sft_direct": "Direct-SFT",
    "sft": "ASTRO-SFT",
    "grpo_direct": "Direct-RL",
    "grpo": "ASTRO-RL",
}


def test_the_headline_holds_the_main_model_against_its_comparator_and_base(page, metrics):
    said = words(section(page, "headline"))
    assert "numbers_3 (300 problems, 8 samples each, seed 7) the ASTRO-RL model is right in 71.3 % [68.5, 74.1]" in said
    assert "+18.0 points [+14.9, +21.1] against Direct-RL and +42.2 points [+39.1, +45.3] against base" in said
    assert "ASTRO-RL against Direct-RL: ahead on numbers_3 ; not told apart on numbers_4" in said
    assert "ASTRO-RL against base: ahead on numbers_3 , numbers_4 ." in said
    for name, models in metrics.sets.items():
        card = said[said.index(f"{name} · ASTRO-RL · pass@1") :]
        for other in ("grpo_direct", "base"):
            pair = next(p for p in metrics.differences[name] if (p.better, p.worse) == ("grpo", other))
            accuracy = f"({100 * models[other].pass_at_1.value:.1f} %)"
            assert f"{change(pair.difference)} vs {LABELS[other]} {accuracy}" in card


def test_a_clear_loss_is_said(data):
    loss = [
        pair.model_copy(
            update={"difference": pair.difference.model_copy(update={"value": -0.2, "low": -0.3, "high": -0.1})}
        )
        for pair in data.metrics.differences["numbers_3"]
    ]
    said = words(section(render(with_metrics(data, differences={"numbers_3": loss})), "headline"))
    assert "ASTRO-RL against Direct-RL: behind on numbers_3 ." in said
    assert "ahead" not in said


def test_without_the_rl_model_the_headline_is_of_the_last_one(data):
    sets = {"only": {m: data.metrics.sets["numbers_3"][m] for m in ("base", "sft_direct", "sft")}}
    page = render(with_metrics(data, sets=sets, differences={}))
    assert "the ASTRO-SFT model is right in 62.4 %" in words(section(page, "headline"))
    assert "ASTRO-RL was compared neither with its baseline nor with base." in words(section(page, "headline"))
    assert "Not measured: Direct-RL, ASTRO-RL." in page


def test_table_figures_equal_the_metrics(page, metrics):
    found = rows(section(page, "results"))
    for row, (model, label) in zip(found[:5], LABELS.items(), strict=True):
        assert row == [label, *(share(models[model].pass_at_1) for models in metrics.sets.values())]
    assert found[5] == ["random legal path", "9.0", "5.1"]
    for models, figures in zip(metrics.sets.values(), (found[6:11], found[11:16]), strict=True):
        for row, (model, label) in zip(figures, LABELS.items(), strict=True):
            m = models[model]
            assert row[:4] == [label, share(m.first_attempt), share(m.maj_at_k), f"{m.backtracks:.2f}"]
            assert row[7] == f"{m.tokens:.0f}"


def test_the_differences_table_holds_all_pairs_main_ones_first(page, metrics):
    found = rows(section(page, "differences"))
    assert [row[0] for row in found[:4]] == [
        "ASTRO-SFT \u2212 Direct-SFT",
        "ASTRO-RL \u2212 Direct-RL",
        "ASTRO-RL \u2212 ASTRO-SFT",
        "ASTRO-RL \u2212 base",
    ]
    cells = {row[0]: row[1:] for row in found}
    for place, (name, pairs) in enumerate(metrics.differences.items()):
        assert name in section(page, "differences")
        for pair in pairs:
            assert cells[f"{LABELS[pair.better]} \u2212 {LABELS[pair.worse]}"][place] == change(pair.difference)


def test_equal_tokens_are_drawn_and_tabled_for_each_set(page, metrics):
    part = section(page, "tokens")
    assert part.count('<svg class="plot"') == len(metrics.sets)
    assert "oracle" in words(part)
    expected = []
    for name in metrics.sets:
        for row in metrics.equal_tokens[name]:
            model, method = re.fullmatch(r"(.*?)_(best_of_n|majority|search)", row.worse).groups()
            way = {"best_of_n": "best of N (oracle)", "majority": "vote of N", "search": "tree search (oracle)"}[method]
            cells = [LABELS[row.better], "153", f"{100 * row.accuracy:.1f}", f"{LABELS[model]}, {way}"]
            if row.other is None:
                cells.append("its curve does not reach there")
            else:
                gain = f"{100 * (row.accuracy - row.other):+.1f}".replace("-", "\u2212")
                cells += [f"{100 * row.other:.1f}", gain]
            expected.append(cells)
    assert rows(part) == expected
    assert "base with MCTS at test time, on 60 of the problems" in words(part)


def test_metrics_of_before_the_budgets(data):
    page = render(with_metrics(data, budgets={}, equal_tokens={}))
    assert "this run has no curve of accuracy against tokens." in section(page, "tokens")
    assert "<svg" not in section(page, "tokens")
    assert words(section(page, "calibration")) == words(section(render(data), "calibration"))


def test_without_a_search_at_test_time(data):
    budgets = {name: [c for c in curves if c.method != "search"] for name, curves in data.metrics.budgets.items()}
    part = section(render(with_metrics(data, budgets=budgets)), "tokens")
    assert words(part).count("No tree search at test time was made") == 2
    assert part.count('<svg class="plot"') == 2
    assert "base, tree search" not in " ".join(re.findall(r"<svg.*?</svg>", part, re.DOTALL))


def test_decisions_of_the_models_that_search(page, metrics):
    expected = []
    for name, models in metrics.sets.items():
        for model in ("sft", "grpo"):
            d = models[model].decisions
            counts = [f"{n:,}".replace(",", "\u2009") for n in (d.right_attempts, d.wrong_attempts)]
            counts = [" ".join(c.split()) for c in counts]
            expected.append([name if model == "sft" else "", LABELS[model], "97.0", "93.0", "95.0", "98.2", *counts])
    assert rows(section(page, "calibration"))[: len(expected)] == expected
    assert section(page, "calibration").count('<svg class="plot"') == 2


def test_correlations_of_the_models_that_search(page, data):
    cells = ["\u22120.41", "+0.23 [+0.18, +0.28]", "\u22120.51 [\u22120.55, \u22120.47]"]
    assert rows(section(page, "calibration"))[4:] == [
        [name, LABELS[model], *cells] for name in data.metrics.sets for model in ("sft", "grpo")
    ]
    unmeasured = {"backtracks_at_equal_tokens": None, "tokens_at_equal_backtracks": None}
    sets = {n: {m: v.model_copy(update=unmeasured) for m, v in ms.items()} for n, ms in data.metrics.sets.items()}
    part = section(render(with_metrics(data, sets=sets)), "calibration")
    assert len(rows(part)) == 4  # no table of dashes
    assert "only length" not in part


def test_no_model_that_searches(data):
    sets = {n: {m: v for m, v in models.items() if m not in ("sft", "grpo")} for n, models in data.metrics.sets.items()}
    page = render(with_metrics(data, sets=sets, differences={}))
    assert "no model that searches" in section(page, "calibration")


def test_every_training_figure_has_both_arms(page):
    part = section(page, "training")
    for figure, labels in {
        "curves: rl": ("Direct-RL", "ASTRO-RL"),
        "curves: sft": ("Direct-SFT", "ASTRO-SFT"),
        "curves: pretraining": ("base",),
    }.items():
        svg = re.search(rf'aria-label="training {figure}".*?</svg>', part, re.DOTALL)[0]
        assert all(f">{label}<" in svg for label in labels)
    for title in ("reward, mean of the step", "tokens per chain", "backtracks per chain", "first attempt right"):
        assert f"RL: {title}" in part
    assert "groups without variance" in part
    assert "No RL curve of" not in part


def test_rl_figures_of_both_arms_stand_below_the_curves(page):
    assert rows(section(page, "training")) == [
        ["Direct-RL", "120", "15 360", "600", "-", "-", "0.205", "0.402"],
        ["ASTRO-RL", "120", "15 360", "600", "600", "41.2", "0.211", "0.587"],
    ]


def test_backtracks_and_accuracy_correlate_over_the_steps_of_rl(data):
    steps = [{"step": float(i), "backtracks": 1.0 + i, "accuracy": a} for i, a in enumerate((0.1, 0.2, 0.2, 0.3))]
    measured = [
        {"step": float(i), "validation_mean_backtracks": b, "validation_pass_at_1": 0.3 - b / 10}
        for i, b in enumerate((1.0, 2.0, 1.5))
    ]
    never_back = [{"step": float(i), "backtracks": 0.0, "accuracy": i / 10} for i in range(4)]
    page = render(replace(data, curves={"grpo": [*steps, *measured], "grpo_direct": never_back}))
    part = words(section(page, "training"))
    assert "ASTRO-RL: over the steps, backtracks and right answers correlate with r = +0.95 (4 training steps)" in part
    assert f"and {MINUS}1.00 (3 measurements on the validation problems)" in part
    assert "Direct-RL: over the steps" not in part


def test_a_figure_of_validation_has_its_interval(data):
    points = [{"step": step, "pass_at_1": value} for step, value in ((0, 0.25), (5, 0.5), (10, 0.4))]
    found = {"problems": 96, "points": points, "published_step": 5, "stopped_early": False}
    curve = [{"step": float(p["step"]), "validation_pass_at_1": p["pass_at_1"]} for p in points]
    metrics = {**data.stage_metrics, "grpo": {**data.stage_metrics["grpo"], "validation": found}}
    page = render(replace(data, stage_metrics=metrics, curves={"grpo": curve}))
    assert ["ASTRO-RL", "96", "25.0", "50.0", "5", "40.0", "± 9.8", "5"] in rows(section(page, "training"))


def test_no_rl_step(data):
    none = make_rl_metrics(pass_rate=None, first=None, last=None, steps=0)
    stage_metrics = {**data.stage_metrics, "grpo": none, "grpo_direct": none}
    page = render(replace(data, curves={**data.curves, "grpo": [], "grpo_direct": []}, stage_metrics=stage_metrics))
    assert rows(section(page, "training"))[1] == ["ASTRO-RL", "0", "0", "600", "-", "-", "-", "-"]
    assert "Not available: this run has no RL curve." in page
    assert Page(page).stack == []


NAN = [{"step": 1.0, "reward": float("nan")}]


@pytest.mark.parametrize(
    ("stage", "curve", "label", "what"),
    [("grpo", [], "ASTRO-RL", "RL"), ("grpo_direct", NAN, "Direct-RL", "RL"), ("sft_direct", [], "Direct-SFT", "SFT")],
)
def test_one_arm_without_a_curve_is_said_and_the_other_drawn(data, stage, curve, label, what):
    part = section(render(replace(data, curves={**data.curves, stage: curve})), "training")
    assert f"No {what} curve of {label}:" in words(part)
    assert f">{what}: " in part  # a panel's title


def test_the_gallery_names_models_and_puts_the_direct_chain_below(page, data):
    items = re.findall(r'<details class="item paper".*?</details>', section(page, "gallery"), re.DOTALL)
    assert len(items) == len(data.gallery)
    for item, example in zip(items, data.gallery, strict=True):
        text = words(item)
        assert f"{LABELS[example.completion.model]}, " in text
        assert item.count('<svg class="graph"') == (2 if example.contrast else 1)
        assert ("Direct-RL on the same problem" in text) == (example.contrast is not None)
        assert example.problem.question in text
    assert "solved after going back" in words(items[0])
    assert "3 of 8 samples right" in words(items[0])
    assert "1 of 8 samples right" in words(items[0])
    assert "failed" in words(items[1])
    assert "solved at once" in words(items[2])


def test_one_arrow_per_back_edge_of_the_gallery(page, data):
    shown = [chain for example in data.gallery for chain in (example.completion, example.contrast) if chain]
    assert page.count('<g class="back">') == sum(len(done.chain.back_edges) for done in shown) > 10


def test_a_tree_opens_and_folds(page, data):
    part = section(page, "trees")
    assert part.count("<details") == part.count("<summary") >= len(data.trees)
    assert all(tree.problem.question in words(part) for tree in data.trees)


def chains_below(page: str) -> list[str]:
    """What stands below each tree: its training chain."""
    items = re.split(r'<details class="item paper"', section(page, "trees"))[1:]
    return [item[item.index('<div class="made">') :] for item in items]


def chain_lines(markup: str) -> list[tuple[str, str, str]]:
    """(class, sign, text) of each line of a training chain."""
    found = re.findall(r'<div class="line (\w+)"><b>(.*?)</b><span>(.*?)</span></div>', markup)
    return [(state, sign, html.unescape(text)) for state, sign, text in found]


def test_below_each_tree_stands_its_chain_coloured_by_what_it_does(page, data):
    solved, unsolved = chains_below(page)
    trace = data.traces[data.trees[0].problem.id]
    assert "Chain to learn from eval-4-02/3 : search, 2 backtracks" in words(solved)
    looks = {"step": "right", "wrong_step": "wrong", "reflection": "doubt", "return": "back"}
    expected = [(looks[s.kind], text) for s in trace.segments for text in s.text.splitlines()]
    assert {state for state, _ in expected} == set(looks.values())
    shown = chain_lines(solved)
    assert [(state, text) for state, _, text in shown] == expected
    assert [text for _, _, text in shown] == trace.completion.splitlines()
    assert sum(sign != "" for _, sign, _ in shown) == len(trace.segments)  # once for each
    assert "no chain was made of this tree" in words(unsolved)
    assert chain_lines(unsolved) == []
    assert "no chain was made" not in words(solved)


def test_every_colour_of_a_chain_is_in_the_key_and_in_the_style(page):
    key = re.search(r'<div class="key">.*?</div>', section(page, "trees"))[0]
    style = re.search(r"<style>.*?</style>", page, re.DOTALL)[0]
    for state in ("right", "wrong", "doubt", "back"):
        assert f'class="k-{state}"' in key
        assert f".text .{state} {{" in style
        assert f".k-{state} {{" in style
    for sign in {sign for chain in chains_below(page) for _, sign, _ in chain_lines(chain)} - {""}:
        assert sign in key


def test_a_tree_of_which_only_direct_solutions_were_made(data):
    trace = make_trace(data.trees[0], backtracks=0)
    shown = chains_below(render(replace(data, traces={trace.problem_id: trace})))[0]
    assert "Chain to learn from eval-4-02/0 : direct solution, 0 backtracks" in words(shown)
    assert {state for state, _, _ in chain_lines(shown)} == {"right"}


def test_without_training_chains_the_trees_are_shown(data):
    part = section(render(replace(data, traces={})), "trees")
    assert all(tree.problem.question in words(part) for tree in data.trees)
    assert 'class="made"' not in part
    assert 'class="key"' not in part
    assert "no chain was made" not in part  # nobody knows


def test_on_paper_pictures_are_whole_and_chains_open(page):
    style = re.search(r"<style>.*?</style>", page, re.DOTALL)[0]
    paper = style[style.index("@media print") :]
    assert re.search(r"svg\.plot[^{]*\{[^}]*page-break-inside: avoid", paper)
    assert re.search(r"details\.paper::details-content \{[^}]*visible", paper)
    assert "--page: #ffffff" in paper
    assert "prefers-color-scheme" not in style  # dark on light everywhere


def test_an_empty_run_is_a_page_that_says_so():
    page = render(ReportData(title="nothing yet", metrics=None))
    parsed = Page(page)
    assert [attrs["id"] for tag, attrs in parsed.elements if tag == "section"] == SECTIONS
    for name in SECTIONS[:-1]:  # the definitions are always there
        assert "Not available: this run has no " in section(page, name), name


MISSING = [
    # what is missing, text that says so
    ({"curves": {}}, "no RL curve"),
    ({"curves": {}}, "no SFT curve"),
    ({"curves": {}}, "no pretraining curve"),
    ({"curves": {"grpo": NAN}}, "no RL curve"),  # nothing finite to draw
    ({"gallery": ()}, "no chain"),
    ({"trees": ()}, "no search tree"),
    ({"traces": {}}, "no training chain"),
    ({"params": {}}, "no params file"),
    ({"stage_metrics": {}}, "no metric of another stage"),
    ({"provenance": {}}, "no provenance record"),
]


@pytest.mark.parametrize(("change", "said"), MISSING)
def test_a_missing_part_is_said(data, change, said):
    page = render(replace(data, **change))
    assert f"Not available: this run has {said}." in page
    assert "71.3 %" in section(page, "headline")  # and the rest is made


@pytest.mark.parametrize("model", LABELS)
def test_a_missing_model_is_said_and_the_rest_made(data, model):
    sets = {n: {m: v for m, v in models.items() if m != model} for n, models in data.metrics.sets.items()}
    pairs = {n: [p for p in ps if model not in (p.better, p.worse)] for n, ps in data.metrics.differences.items()}
    budgets = {n: [c for c in curves if c.label != model] for n, curves in data.metrics.budgets.items()}
    page = render(with_metrics(data, sets=sets, differences=pairs, budgets=budgets))
    assert f"Not measured: {LABELS[model]}." in page
    assert [row[0] for row in rows(section(page, "results"))[:4]] == [v for k, v in LABELS.items() if k != model]
    assert Page(page).stack == []


def test_a_curve_with_few_columns_draws_what_it_has(data):
    rows = [{"step": float(i), "reward": 0.1 * i} for i in range(5)]
    page = render(replace(data, curves={"grpo": rows}))
    assert "RL: reward" in page
    assert "RL: tokens per chain" not in page


def test_one_model_and_no_comparison(data):
    sets = {"only": {"base": data.metrics.sets["numbers_3"]["base"]}}
    page = render(with_metrics(data, sets=sets, differences={}, budgets={}, equal_tokens={}))
    assert "no comparison" in page
    assert "29.1 %" in page


def test_a_large_run_stays_below_three_megabytes(data):
    problem = make_problem("p", 24, [3, 5, 7, 9])
    long = make_completion(problem, "sft", seed=4, attempts=120, solve=False)
    tree = make_tree(problem, seed=32)
    curve = [{"step": float(i), "loss": 1.0 + (i % 7) / 10, "reward": i / 20000} for i in range(20000)]
    large = replace(
        data, gallery=[Example(problem, long, long)] * 90, trees=[tree] * 90, curves=dict.fromkeys(data.curves, curve)
    )
    page = render(large)
    assert len(page.encode()) < 3_000_000
    assert "more chains left out" in page
    assert "more trees left out" in page
    assert "more characters left out" in page


def test_chains_below_the_trees_count_towards_their_size(data):
    tree = data.trees[0]
    piece = Segment(text="1 + 1 = 2\n" * 1200, kind="wrong_step", node=1)
    long = make_trace(tree, backtracks=1).model_copy(update={"segments": [piece], "completion": piece.text + "more"})
    trees = [
        tree.model_copy(update={"nodes": tree.nodes[:5], "problem": make_problem(f"p{i}", 24, [3, 5, 7, 9])})
        for i in range(60)
    ]
    large = replace(data, gallery=(), trees=trees, traces={t.problem.id: long for t in trees})
    part = section(render(large), "trees")
    assert len(part.encode()) < 1.2 * report.TREES_BYTES
    assert "more trees left out" in part
    assert "left out" not in section(render(replace(large, traces={})), "trees")
    longer = long.model_copy(update={"segments": [piece, piece], "completion": 2 * piece.text})
    item = chains_below(render(replace(data, trees=trees[:1], traces={"p0": longer})))[0]
    assert len(chain_lines(item)) == 1200
    assert "12000 more characters left out" in words(item)


def test_a_deep_tree_is_no_recursion_error(data):
    tree = make_tree(make_problem("p", 24, [4, 6, 8]), seed=2)
    step = tree.nodes[1].model_copy(update={"terminal": False, "verdict": None, "visits": 1})
    nodes = [tree.nodes[0], *(step.model_copy(update={"index": i, "parent": i - 1, "depth": i}) for i in range(1, 400))]
    page = render(replace(data, trees=[tree.model_copy(update={"nodes": nodes})]))
    assert "319 more nodes" in page


def test_the_gallery_shows_at_least_one_item(data, monkeypatch):
    monkeypatch.setattr(report, "GALLERY_BYTES", 1)
    page = render(data)
    assert page.count('<svg class="graph"') == 2  # with its contrast
    assert "3 more chains left out" in page
