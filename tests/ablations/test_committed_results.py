"""Kept runs: what is written is read back, and what does not fit is not taken."""

import copy
import json
from pathlib import Path

import pytest

from astro.ablations.committed_results import changed, keep, kept, of_an_earlier_default, result_of
from astro.ablations.experiment_results import Result
from astro.ablations.spec import Planned, committed_params, plan
from astro.process import UserError
from schemas.ablations import BASELINE, Ablation
from schemas.renamed import RENAMED

ROOT = Path(__file__).parents[2]
OTHER = Ablation(name="other", question="why?", set=["a.b=1"])
ASKED = {"n3": {"p1": "one", "p0": "none"}, "n4": {"q0": "more"}}
FOUND = Result(
    ASKED,
    {("n3", "sft"): {"p0": 0.25, "p1": 1.0}, ("n4", "sft"): {"q0": 0.0}, ("n3", "grpo"): {"p0": 0.5, "p1": 0.75}},
)


def planned(**params) -> Planned:
    return Planned(OTHER, 1, {"eval": {"samples": 4}, "lr": 0.001, **params})


def test_what_is_kept_is_what_was_found(tmp_path):
    path = keep(planned(), FOUND, commit="c" * 40, folder=tmp_path)
    run = kept(planned(), tmp_path)
    assert run.commit == "c" * 40
    assert result_of(run, tmp_path) == FOUND
    before = path.read_bytes()
    keep(planned(), FOUND, commit="c" * 40, folder=tmp_path)
    assert path.read_bytes() == before


def test_runs_that_were_asked_the_same_share_a_file(tmp_path):
    keep(planned(), FOUND, commit="c" * 40, folder=tmp_path)
    keep(Planned(OTHER, 2, planned().params), FOUND, commit="c" * 40, folder=tmp_path)
    assert len(list(tmp_path.glob("questions-*.json"))) == 1
    assert len(list(tmp_path.glob("other-s*.json"))) == 2


def test_a_run_with_other_params_does_not_count(tmp_path):
    assert kept(planned(), tmp_path) is None
    keep(planned(), FOUND, commit="c" * 40, folder=tmp_path)
    assert kept(planned(lr=0.002), tmp_path) is None
    assert kept(planned(more=1), tmp_path) is None
    keep(planned(more=1), FOUND, commit="c" * 40, folder=tmp_path)
    assert kept(planned(), tmp_path) is None


def test_a_parameter_that_is_new_since_then_is_taken_at_its_default(tmp_path):
    """The defaults are those of the project's own params.yaml."""
    settings = committed_params()
    settings["sft"]["lr"] = 0.5
    old = copy.deepcopy(settings)
    del old["sft"]["warmup"], old["report"]
    keep(Planned(OTHER, 1, old), FOUND, commit="c" * 40, folder=tmp_path)
    assert kept(Planned(OTHER, 1, settings), tmp_path)
    settings["sft"]["warmup"] = 0.99
    assert kept(Planned(OTHER, 1, settings), tmp_path) is None


def test_a_run_with_a_parameter_that_is_gone_does_not_count(tmp_path):
    settings = committed_params()
    old = copy.deepcopy(settings)
    old["sft"]["gradient_accumulation"] = 1
    keep(Planned(OTHER, 1, old), FOUND, commit="c" * 40, folder=tmp_path)
    assert kept(Planned(OTHER, 1, settings), tmp_path) is None


def test_where_a_run_was_made_does_not_matter(tmp_path):
    settings = committed_params()
    elsewhere = copy.deepcopy(settings)
    elsewhere["execution"]["processes"] = 7
    keep(Planned(OTHER, 1, elsewhere), FOUND, commit="c" * 40, folder=tmp_path)
    assert kept(Planned(OTHER, 1, settings), tmp_path)


def test_a_run_that_does_not_go_with_its_questions_is_refused(tmp_path):
    path = keep(planned(), FOUND, commit="c" * 40, folder=tmp_path)
    content = json.loads(path.read_text())
    content["right"]["n3"]["sft"].append(1)
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"set n3: 2 questions, but sft has 3 figures"):
        result_of(kept(planned(), tmp_path), tmp_path)
    next(tmp_path.glob("questions-*.json")).unlink()
    with pytest.raises(UserError, match="no such file"):
        result_of(kept(planned(), tmp_path), tmp_path)
    path.write_text("{")
    with pytest.raises(UserError, match=r"other-s1\.json"):
        kept(planned(), tmp_path)


def test_a_run_with_former_names_of_its_params_counts(tmp_path):
    """Every parameter that has been renamed, in a run of the time before."""
    settings = committed_params()
    settings["arms"] = {"astro": {"sft": {}, "grpo": {"max_completion_length": 8, "restart": {"fraction": 0.5}}}}
    old = json.loads(json.dumps(settings))
    for one in RENAMED:
        for section in sections(old, one.section.split(".")) + sections(old, ["arms", "*", *one.section.split(".")]):
            if one.now in section:
                section[one.was] = section.pop(one.now)
    assert "max_completion" in old["arms"]["astro"]["grpo"]
    path = keep(Planned(OTHER, 1, old), FOUND, commit="c" * 40, folder=tmp_path)
    assert '"k":' in path.read_text()
    assert kept(Planned(OTHER, 1, settings), tmp_path)
    for one in RENAMED:
        if not one.section.startswith("execution"):
            asked = copy.deepcopy(settings)
            for section in sections(asked, one.section.split(".")):
                section[one.now] = "another"
            assert kept(Planned(OTHER, 1, asked), tmp_path) is None, one


def sections(params, path):
    """The sections at a path; `*` is any key."""
    if not path:
        return [params]
    keys = params if path[0] == "*" else [path[0]] if path[0] in params else []
    return [found for key in keys if isinstance(params[key], dict) for found in sections(params[key], path[1:])]


# --- a default that has changed ----------------------------------------------------------------------------------------


def _era(folder, other, default=None):
    """A kept default and a kept run of OTHER, with these params."""
    settings = {"eval": {"samples": 4}, "a": {"b": 0}, "lr": 0.5, **(default or {})}
    keep(Planned(Ablation(name=BASELINE, question="?", set=[]), 1, settings), FOUND, commit="c" * 40, folder=folder)
    keep(Planned(OTHER, 1, {**settings, **other}), FOUND, commit="c" * 40, folder=folder)
    return {"other-s1": Planned(OTHER, 1, {"eval": {"samples": 8}, "a": {"b": 1}, "lr": 0.9, "new": True})}


def test_runs_of_an_earlier_default_are_compared_with_it(tmp_path):
    wanted = _era(tmp_path, {"a": {"b": 1}})
    assert kept(wanted["other-s1"], tmp_path) is None
    assert list(of_an_earlier_default(wanted, tmp_path)) == ["other-s1"]


@pytest.mark.parametrize(
    ("other", "default", "why"),
    [
        ({"a": {"b": 2}}, {}, "its setting had another value"),
        ({"a": {"b": 1}, "lr": 0.1}, {}, "it differs from the default beside it by more than its settings"),
        ({"a": {"b": 1}}, {"a": {}}, "neither the default of that time nor the present one knows the parameter"),
    ],
)
def test_a_run_that_is_no_ablation_of_the_default_beside_it_does_not_count(tmp_path, other, default, why):
    assert of_an_earlier_default(_era(tmp_path, other, default), tmp_path) == {}, why


def test_without_the_default_of_that_time_nothing_counts(tmp_path):
    wanted = _era(tmp_path, {"a": {"b": 1}})
    (tmp_path / f"{BASELINE}-s1.json").unlink()
    assert of_an_earlier_default(wanted, tmp_path) == {}


def test_what_has_changed_is_said():
    had = {"run": {"seed": 3}, "a": {"b": 1, "gone": 2}, "lr": 0.5, "same": 1}
    now = {"run": {"seed": 1}, "a": {"b": 3, "new": 0}, "lr": 0.5, "same": 1}
    assert changed(had, now) == ["a.b was 1, is now 3", "a.gone was 2, no longer exists"]


def test_the_committed_results_can_be_shown():
    """Whatever the default is now: `astro ablations table` without a run of one's own."""
    folder = ROOT / "results/runs"
    runs = {p.name: p for p in plan(ROOT / "ablations.yaml")}
    shown = {name for name, one in runs.items() if kept(one, folder)} or set(of_an_earlier_default(runs, folder))
    assert {f"default-s{seed}" for seed in (1, 2, 3)} <= shown
    committed = {path.stem for path in folder.glob("*.json") if not path.stem.startswith("questions-")}
    assert shown == committed & set(runs)


def test_kept_results_lie_beside_their_file(tmp_path, monkeypatch):
    """Those of a file beside params.yaml are in results/runs, or in a folder of its profile."""
    monkeypatch.chdir(ROOT)
    assert {one.folder for one in plan(Path("ablations.yaml"))} == {Path("results/runs")}
    assert {one.folder for one in plan(Path("results/rl/ablations.yaml"))} == {Path("results/rl")}
    (tmp_path / "smoke.yaml").write_text(
        "profile: smoke\nseeds: [1]\nablations:\n  - {name: default, question: q, set: []}\n"
    )
    monkeypatch.setattr(Path, "cwd", lambda: tmp_path)
    assert {one.folder for one in plan(tmp_path / "smoke.yaml")} == {Path("results/smoke")}
