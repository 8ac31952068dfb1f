"""What keeps the parts apart: import arrows, dvc.yaml against its files, params.yaml against the schemas.

These tests read the sources, they do not run them.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import get_origin

import pytest
from pydantic import BaseModel

from astro.code_identity import Sources, path_of, scripts
from astro.dvc_files import read_pipeline
from astro.params import UNTRACKED, plain, read_yaml
from astro.profiles import merged
from schemas.params import Params

ROOT = Path(__file__).parent.parent
LOCAL = ("astro", "schemas", "stages")
PARAMS = plain(read_yaml(ROOT / "params.yaml"))
PIPELINE = read_pipeline(PARAMS)
SOURCES = Sources(ROOT)
MODULES = SOURCES.modules

LAYERS = [
    {"schemas"},
    {
        "astro.process",
        "astro.special_tokens",
        "astro.seeds",
        "astro.code_identity",
        "astro.hardware",
    },  # leaves that anyone may import
    {"astro.files"},
    {"astro.params"},
    {"astro.arms", "astro.dvc_files"},
    {
        "astro.grading",
        "astro.search",
        "astro.cloning",
        "astro.evaluation",
        "astro.validation",
        "astro.viz",
        "astro.tracking",
    },
    {"astro.compute_profile", "astro.tasks", "astro.profiles", "astro.rates"},
    {"astro.ablations", "astro.inference", "astro.export", "astro.importing", "astro.training"},
    {"astro.execution"},
    {"astro.preflight"},
    {"astro.plan", "astro.ask", "astro.task_check"},
    {"astro.check"},
    {"astro.__main__"},
    {"stages"},
]
"""Whoever stands further down may import what stands above, and nobody a neighbour."""

ONLY_IN = {
    # third party -> the only packages that may import it
    "torch": {
        "astro.hardware",
        "astro.preflight",
        "astro.inference",
        "astro.training",
    },  # the dry run: shapes, on the meta device
    "transformers": {
        "astro.special_tokens",  # for types alone
        "astro.preflight",
        "astro.inference",
        "astro.training",
        "astro.tasks",
    },  # chat templates are rendered by it
    "tokenizers": {"astro.inference", "astro.training", "astro.special_tokens"},
    "datasets": {
        "astro.export",
        "astro.training",
        "astro.importing",
    },  # TRL's data format; data sets of the hub and for it
    "trl": {"astro.training"},
    "peft": {"astro.training"},
    "vllm": {"astro.inference"},
    "openai": {"astro.inference"},
    "mlflow": {"astro.tracking"},
    "great_expectations": {"astro.validation"},
    "matplotlib": {"astro.viz"},
    "jinja2": {"astro.viz", "astro.tasks"},  # its errors, in chat templates
    "ray": {"astro.execution"},
    "reasoning_gym": {"astro.tasks"},
}

# --- the sources -------------------------------------------------------------------------------------------------------


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def script(stage: str) -> str:
    """The script of a stage: those of all arms run the same one with an argument."""
    return stage.partition("@")[0]


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def statements(node: ast.AST, *, for_types: bool, functions: bool) -> Iterator[ast.AST]:
    """Every node below; `if TYPE_CHECKING` and the bodies of functions only where asked for."""
    for child in ast.iter_child_nodes(node):
        left_out = (not for_types and is_type_checking(child)) or (not functions and isinstance(child, ast.FunctionDef))
        if not left_out:
            yield child
            yield from statements(child, for_types=for_types, functions=functions)


def imports(module: str, *, for_types: bool, functions: bool = True) -> set[str]:
    """Dotted names that a module imports; of `from a import b` a.b, where that is a module of ours, else a.

    functions: whether the imports inside functions count, which are done only where those are called.
    """
    found = set()
    for node in statements(tree_of(module), for_types=for_types, functions=functions):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            for alias in node.names:
                inside = f"{node.module}.{alias.name}"
                found.add(inside if inside in MODULES else node.module)
    return found


def package_of(module: str) -> str:
    """The entry of LAYERS that a module belongs to."""
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "astro" else parts[0]


def layer_of(package: str) -> int | None:
    return next((i for i, layer in enumerate(LAYERS) if package in layer), None)


def test_the_reader_of_imports_sees_what_it_should():
    """Imports in functions count; those for types only where asked for; a submodule is told from a name."""
    assert "astro.inference.vllm_engine" in imports("astro.inference.factory", for_types=False)
    assert "schemas.engine" not in imports("astro.inference.factory", for_types=False)
    assert "schemas.engine" in imports("astro.inference.factory", for_types=True)
    assert "astro.tracking" in imports("stages.harness", for_types=False)
    assert "astro.evaluation.backtracking" in imports("astro.evaluation.summary", for_types=False)


# --- 1. arrows ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [m for m in MODULES if m != "astro"])
def test_imports_run_one_way(module):
    own = package_of(module)
    mine = layer_of(own)
    assert mine is not None, f"{own} has no place in LAYERS"
    wrong = []
    for other in imports(module, for_types=True):
        package = package_of(other)
        if other.split(".")[0] in LOCAL and package != own:
            place = layer_of(package)
            if place is None or place >= mine:
                wrong.append(other)
    assert wrong == []


def test_every_folder_of_modules_is_a_package():
    """Without its __init__ a folder would be left out of a wheel."""
    assert [str(p) for p in MODULES.values() if not (p.parent / "__init__.py").is_file()] == []


@pytest.mark.parametrize("module", list(MODULES))
def test_heavy_libraries_stay_where_they_belong(module):
    tops = {name.split(".")[0] for name in imports(module, for_types=True)}
    assert [t for t in tops if t in ONLY_IN and package_of(module) not in ONLY_IN[t]] == []


@pytest.mark.parametrize("module", [m for m in MODULES if m.startswith("stages.")])
def test_stages_do_not_import_each_other(module):
    others = {m for m in imports(module, for_types=True) if m.split(".")[0] == "stages"}
    assert others <= {"stages.harness"}


def test_stages_start_without_the_slow_imports():
    """A mistake in params.yaml is told at once, not after half a minute of imports."""
    stages = sorted({f"stages.{script(name)}" for name in PIPELINE})
    slow = {"torch", "vllm", "transformers", "mlflow", "great_expectations", "openai", "ray"}
    code = f"import sys, {', '.join(stages)}; print(sorted({slow!r} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "[]"


# --- 2. dvc.yaml and its files -----------------------------------------------------------------------------------------

DVC = plain(read_yaml(ROOT / "dvc.yaml"))["stages"]
RUN = [name for name in PIPELINE if name != "code"]
"""Stages that depend on code; `code` writes down which."""


@pytest.mark.parametrize("stage", RUN)
def test_code_is_a_dependency_by_its_generated_file_alone(stage):
    """A source listed by hand would be forgotten, or run the stage again for a comment."""
    assert PIPELINE[stage].deps[0] == str(path_of(script(stage)))
    assert [dep for dep in PIPELINE[stage].deps if dep.endswith(".py") or dep.split("/")[0] in LOCAL] == []


@pytest.mark.parametrize("stage", DVC)
def test_a_stage_is_one_command(stage):
    entry = DVC[stage].get("do", DVC[stage])
    assert entry["cmd"] == f"exec python -m stages.{stage}" + (" ${key}" if "foreach" in DVC[stage] else "")


def test_every_script_is_a_stage():
    assert {m.removeprefix("stages.") for m in MODULES if m.startswith("stages.")} == {
        *map(script, PIPELINE),
        "harness",
    }
    assert scripts(ROOT) == sorted({*map(script, RUN)})


def test_dvc_yaml_is_short():
    """A list of sources, or a copy of a stage for an arm, would show here."""
    assert len((ROOT / "dvc.yaml").read_text().splitlines()) < 220


def test_the_pipeline_is_read_as_dvc_reads_it():
    """Names, params, deps and outs of every stage; DVC's own reader of dvc.yaml is the reference."""
    from dvc.repo import Repo

    with Repo(str(ROOT)) as repo:
        for stage in repo.index.stages:
            ours = PIPELINE[stage.addressing]
            assert {str(out.def_path) for out in stage.outs} == set(ours.outs), stage.addressing
            files = {dep.def_path for dep in stage.deps if not hasattr(dep, "params")}
            assert files == set(ours.deps), stage.addressing
            keys = {key for dep in stage.deps if hasattr(dep, "params") for key in dep.params}
            assert keys == set(ours.params), stage.addressing
        assert {stage.addressing for stage in repo.index.stages} == set(PIPELINE)


@pytest.mark.parametrize("stage", PIPELINE)
def test_data_dependencies_are_made_by_an_earlier_stage(stage):
    earlier = list(PIPELINE)[: list(PIPELINE).index(stage)]
    made = [Path(out) for name in earlier for out in PIPELINE[name].outs]
    for dep in map(Path, PIPELINE[stage].deps):
        if dep.parts[0] in ("code", "data", "models", "metrics", "records"):
            assert any(dep.is_relative_to(out) or out.is_relative_to(dep) for out in made), (
                f"{dep}: no earlier stage makes it"
            )


def test_records_are_read_by_the_report_only():
    """They differ from run to run: a stage that depended on one would run every time."""
    assert [s for s in RUN if s != "report" and any(d.startswith("records") for d in PIPELINE[s].deps)] == []
    assert "records" in PIPELINE["report"].deps
    assert all(sum(out.startswith("records/") for out in PIPELINE[s].outs) == 1 for s in RUN if s != "report")


# --- 3. params.yaml and the schemas ------------------------------------------------------------------------------------


def schema_keys(model: type[BaseModel], at: str = "") -> Iterator[str]:
    """Dotted keys of a contract; a dict with free keys is a leaf."""
    for name, info in model.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and get_origin(kind) is None and issubclass(kind, BaseModel):
            yield from schema_keys(kind, f"{at}{name}.")
        else:
            yield at + name


def file_keys(values: dict, leaves: set[str], at: str = "") -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, dict) and at + name not in leaves:
            yield from file_keys(value, leaves, f"{at}{name}.")
        else:
            yield at + name


def test_params_and_schemas_agree_key_for_key():
    expected = list(schema_keys(Params))
    assert len(expected) > 80  # the walk does go down
    assert sorted(file_keys(PARAMS, set(expected))) == sorted(expected)


def test_every_contract_says_what_its_numbers_are():
    """A bound or a description stands with every number; names that explain themselves are few."""
    bare = []
    todo: list[type[BaseModel]] = [Params]
    while todo:
        model = todo.pop()
        for name, info in model.model_fields.items():
            if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
                todo.append(info.annotation)
            elif info.annotation in (int, float) and not info.description and not info.metadata:
                bare.append(f"{model.__name__}.{name}")
    assert set(bare) <= {"GrpoParams.reward_correct", "GrpoParams.reward_wrong"}


# --- 4. profiles -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted((ROOT / "profiles").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_profile_gives_valid_params(path):
    assert merged(path, (ROOT / "params.yaml").read_text(encoding="utf-8"))


# --- 5. the params that a stage reads ----------------------------------------------------------------------------------


def reads(tree: ast.Module) -> set[str]:
    """What a stage's script reads of the params: "section.key", or "section" where it hands the whole on.

    Followed: `s.params.<section>`, the result of `load_params()`, `s.params` handed to a function of the script, names
    bound to a section, and getattr over constants.
    """
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    functions = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    roots, aliases = set(), {}  # names of the params as a whole; name -> section

    def section_of(node: ast.AST) -> str | None:
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            return aliases.get(node.id)
        if isinstance(node, ast.Attribute) and node.attr in Params.model_fields:
            whole = node.value
            if (isinstance(whole, ast.Attribute) and whole.attr == "params") or (
                isinstance(whole, ast.Name) and whole.id in roots
            ):
                return node.attr
        return None

    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in functions:
            for given, taken in zip(node.args, functions[node.func.id].args.args, strict=False):
                if isinstance(given, ast.Attribute) and given.attr == "params":
                    roots.add(taken.arg)
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            target, value = node.targets[0], node.value
            pairs = zip(target.elts, value.elts, strict=True) if both_tuples(target, value) else [(target, value)]
            for name, bound in pairs:
                if (
                    isinstance(name, ast.Name)
                    and isinstance(bound, ast.Call)
                    and ast.unparse(bound.func) == "load_params"
                ):
                    roots.add(name.id)
                elif isinstance(name, ast.Name) and (section := section_of(bound)):
                    assert aliases.get(name.id, section) == section, f"{name.id} stands for two sections"
                    aliases[name.id] = section
    assert not roots & set(aliases), f"{roots & set(aliases)}: stand for all params here and for a section there"
    found = set()
    for node in ast.walk(tree):
        section = section_of(node)
        if section is None:
            continue
        above = parents[node]
        fields = Params.model_fields[section].annotation.model_fields
        if isinstance(above, ast.Attribute):
            found.add(f"{section}.{above.attr}" if above.attr in fields else section)
        elif isinstance(above, ast.Call) and ast.unparse(above.func) == "getattr":
            found |= {f"{section}.{key}" for key in constants_around(above, parents)} or {section}
        elif not isinstance(above, ast.Assign) and not isinstance(parents.get(above), ast.Assign):
            found.add(section)
    return found


def both_tuples(target: ast.AST, value: ast.AST) -> bool:
    return isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts)


def constants_around(node: ast.AST, parents: dict) -> set[str]:
    """The texts that the comprehension around a node goes over; empty: there is none."""
    while node in parents and not isinstance(node, ast.DictComp | ast.ListComp | ast.GeneratorExp | ast.SetComp):
        node = parents[node]
    sources = [generator.iter for generator in getattr(node, "generators", [])]
    return {c.value for source in sources for c in ast.walk(source) if isinstance(c, ast.Constant)}


READS = [
    # (code, what it reads)
    ("s.params.mcts.num_actions", {"mcts.num_actions"}),
    ("f(s.params.engine)", {"engine"}),
    ("s.params.mcts.model_dump()", {"mcts"}),
    ("p = s.params.mcts\nf(p.num_actions, p.rollouts_per_child)", {"mcts.num_actions", "mcts.rollouts_per_child"}),
    ("p, d = s.params.mcts, g(s.params.run.task)\np.num_actions", {"mcts.num_actions", "run.task"}),
    ("p = load_params()\np.report.trees", {"report.trees"}),
    ("w = s.params.problems\n{k: getattr(w, k) for k in ('train', 'rl')}", {"problems.train", "problems.rl"}),
    ("w = s.params.problems\ngetattr(w, key)", {"problems"}),
    ("def f(a, p):\n    return p.base.model\nf(1, s.params)", {"base.model"}),
    ("params.base.training", set()),  # a name that is not known to be the params
]


@pytest.mark.parametrize(("code", "expected"), READS)
def test_the_reader_of_params_sees_what_it_should(code, expected):
    assert reads(ast.parse(code)) == expected


NO_RESULT = set(UNTRACKED)
"""Where work is done, on which nothing depends (tests/execution/test_ray_runner.py): a change must not run a stage again."""


@pytest.mark.parametrize("stage", RUN)
def test_dvc_tracks_every_param_that_a_stage_reads(stage):
    # a key that stands in the path of a dep is tracked by that: another path is another dep
    entry = DVC[script(stage)].get("do", DVC[script(stage)])
    in_deps = [key for dep in entry["deps"] for key in re.findall(r"\$\{(.*?)\}", dep)]
    tracked = [*PIPELINE[stage].params, *in_deps]

    def covered(key: str) -> bool:
        below = {k for k in schema_keys(Params) if k.startswith(key + ".")} - NO_RESULT
        return any(key == entry or key.startswith(entry + ".") for entry in tracked) or (
            bool(below) and all(map(covered, below))
        )

    read = reads(tree_of(f"stages.{script(stage)}"))
    assert read
    assert sorted(key for key in read if key.partition(".")[0] not in NO_RESULT and not covered(key)) == []


@pytest.mark.parametrize("stage", RUN)
def test_no_stage_depends_on_where_it_works(stage):
    tracked = PIPELINE[stage].params
    assert [key for key in NO_RESULT if any(key == t or key.startswith(t + ".") for t in tracked)] == []


@pytest.mark.parametrize("stage", RUN)
def test_tracked_params_exist_and_are_read(stage):
    keys = set(schema_keys(Params))
    read = reads(tree_of(f"stages.{script(stage)}"))
    for entry in PIPELINE[stage].params:
        if entry.startswith("arms."):
            continue  # laid over the stage's own section (Params.of_arm)
        assert any(key == entry or key.startswith(entry + ".") for key in keys), f"{entry}: no such parameter"
        section = entry.partition(".")[0]
        assert any(key.partition(".")[0] == section for key in read), f"{entry}: {stage} does not read it"


def test_every_section_is_tracked_by_a_stage():
    tracked = {key.partition(".")[0] for entry in PIPELINE.values() for key in entry.params}
    assert tracked == set(Params.model_fields) - NO_RESULT
