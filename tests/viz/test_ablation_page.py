"""The page of the ablations: what is there is shown, what is not is left out, and nothing is loaded."""

from html.parser import HTMLParser

from astro.viz.ablation_page import forest, render, sections
from schemas.ablations import AblationFigure, AblationReport, AblationRow, AblationRun, ArmsFigure, SeedDifference
from schemas.evaluate import Estimate

DIFFERENCE = Estimate(value=-0.205, low=-0.22, high=-0.19, n=1000)


def figure(
    model: str, mean: float | None, difference: Estimate | None = None, *, eval_set: str = "n3"
) -> AblationFigure:
    each = [SeedDifference(seed=1, difference=-0.25), SeedDifference(seed=2, difference=-0.16)] if difference else []
    seeds = [] if mean is None else [1, 2]
    return AblationFigure(set=eval_set, model=model, pass_at_1=mean, seeds=seeds, difference=difference, by_seed=each)


def row(name: str, question: str, *figures: AblationFigure) -> AblationRow:
    command = f"dvc exp run --name {name}-s1"
    run = AblationRun(seed=1, experiment=f"{name}-s1", commit="c" * 40, command=command)
    return AblationRow(name=name, question=question, set=[], runs=[run], figures=list(figures), arms=[])


TABLE = AblationReport(
    commit="b" * 40,
    seeds=[1, 2],
    rows=[
        row("default", "What is it?", figure("sft", 0.5), figure("grpo", None)),
        row("off", "Does <b>it</b> help?", figure("sft", 0.295, DIFFERENCE), figure("grpo", None)),
    ],
)


class Balance(HTMLParser):
    """Open tags, and every address that a tag names."""

    def __init__(self):
        super().__init__()
        self.open, self.addresses = [], []

    def handle_starttag(self, tag, attrs):
        self.addresses += [v for k, v in attrs if k in ("src", "href") and not v.startswith("#")]
        if tag not in ("meta", "path", "use", "br", "link"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.addresses += [v for k, v in attrs if k in ("src", "href") and not v.startswith("#")]

    def handle_endtag(self, tag):
        if tag not in ("path", "use"):
            assert self.open.pop() == tag


def assert_whole(page: str) -> None:
    """Each tag is closed in its turn, and nothing is loaded."""
    reader = Balance()
    reader.feed(page)
    assert (reader.open, reader.addresses) == ([], [])


def test_the_page_is_whole_and_loads_nothing():
    page = render(TABLE)
    assert_whole(page)
    assert "Does &lt;b&gt;it&lt;/b&gt; help?" in page
    assert "\u221220.5" in page
    assert "\u221225.0 .. \u221216.0" in page
    assert page == render(TABLE)


def test_what_the_search_prior_is_worth_has_its_own_table():
    worth = ArmsFigure(
        set="n4",
        model="sft",
        difference=Estimate(value=0.215, low=0.2, high=0.23, n=1000),
        by_seed=[SeedDifference(seed=1, difference=0.19), SeedDifference(seed=2, difference=0.24)],
    )
    default, off = TABLE.rows
    page = render(TABLE.model_copy(update={"rows": [default.model_copy(update={"arms": [worth]}), off]}))
    assert_whole(page)
    assert "n4: ASTRO-SFT \u2212 Direct-SFT" in page
    assert "<td>+21.5</td>" in page
    assert "+19.0 .. +24.0" in page
    assert "Direct-SFT" not in render(TABLE)


def test_models_without_a_figure_are_left_out():
    ((name, models),) = sections(TABLE)
    assert name == "n3"
    assert [(model, [ablation for ablation, _ in rows]) for model, rows, _ in models] == [("sft", ["default", "off"])]
    assert "No run is done yet" in render(TABLE.model_copy(update={"rows": []}))


def test_without_a_difference_there_is_no_plot():
    assert forest([("default", figure("sft", 0.5))], name="n3-sft") is None
    plot = forest([("off", figure("sft", 0.295, DIFFERENCE))], name="n 3<sft")
    assert "forest-n-3-sft" in plot
