"""What counts as a change of code, which modules a stage reaches, and what cannot be followed."""

import textwrap
from pathlib import Path

import pytest

from astro.code_identity import (
    BY_LITERAL,
    IdentityError,
    Sources,
    differences,
    scripts,
    text_of,
    write_all,
)

ROOT = Path(__file__).parents[1]


def tree(root: Path, files: dict[str, str]) -> Path:
    """A project with one stage, two tasks and `files`; a folder of each file is a package."""
    shared = {
        "stages/go.py": "import astro.work\nrun_stage(astro.work.main)",
        "astro/tasks/sums/rules.py": "RULES = 1",
        "astro/tasks/words/rules.py": "RULES = 2",
    }
    for name, text in {**shared, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    for path in list(root.rglob("*.py")):
        for folder in path.relative_to(root).parents:
            if folder != Path(".") and not (root / folder / "__init__.py").exists():
                (root / folder / "__init__.py").touch()
    return root


def reached(root: Path, task: str = "sums") -> set[str]:
    return set(Sources(root).identity("go", task))


def hash_of(root: Path, text: str) -> str:
    tree(root, {"astro/work.py": text})
    return Sources(root).identity("go", "sums")["astro/work.py"]


# what was edited, before, after
SAME = [
    ("a docstring", 'def f():\n    """One."""\n    return 1', 'def f():\n    """Two."""\n    return 1'),
    ("a docstring that is new", "def f():\n    return 1", 'def f():\n    """Two."""\n    return 1'),
    ("of a constant", 'A = 1\n"""One."""', 'A = 1\n"""Two."""'),
    ("of a class that holds nothing else", 'class A:\n    """One."""', "class A:\n    pass"),
    ("a comment", "A = 1", "# why\nA = 1  # so"),
    ("layout", "A = {'b': 1, 'c': 2}", 'A = {\n    "b": 1,\n    "c": 2,\n}'),
    ("brackets and split texts", "A = ('ab' + b)", "A = 'a' 'b' + b"),
    ("the description of a field", "a: int = Field(ge=0, description='x')", "a: int = Field(ge=0, description='y')"),
    ("annotations of a signature", "def f(a, *, b=1): return a", "def f(a: int, *, b: str = 1) -> int: return a"),
    ("annotations of a local", "def f():\n    a = 1\n    return a", "def f():\n    a: int = 1\n    return a"),
    ("imports for types", "import a", "import a\nif TYPE_CHECKING:\n    import b"),
]


@pytest.mark.parametrize(("edit", "before", "after"), SAME, ids=[case[0] for case in SAME])
def test_edits_that_change_no_behaviour_keep_the_hash(edit, before, after, tmp_path):
    assert hash_of(tmp_path, before) == hash_of(tmp_path, after)


OTHER = [
    ("an operator", "A = b + c", "A = b - c"),
    ("a constant", "A = 1", "A = 2"),
    ("a kind of number", "A = 1", "A = 1.0"),
    ("a truth value", "A = 1", "A = True"),
    ("a name", "def f(): pass", "def g(): pass"),
    ("a default", "def f(a=1): pass", "def f(a=2): pass"),
    ("an order", "f()\ng()", "g()\nf()"),
    ("the bound of a field", "a: int = Field(ge=0, description='x')", "a: int = Field(ge=1, description='x')"),
    ("the annotation of a field", "class A:\n    a: int = 1", "class A:\n    a: float = 1"),
    ("a text in use", "A = 'one'", "A = 'two'"),
    ("an else", "if a:\n    b()", "if a:\n    b()\nelse:\n    c()"),
    ("an empty body that was not", "def f():\n    return 1", "def f():\n    pass"),
    ("a docstring that is read", "print(__doc__)\ndef f():\n    'One.'", "print(__doc__)\ndef f():\n    'Two.'"),
    ("a decorator", "def f(): return 1", "@cache\ndef f(): return 1"),
]


@pytest.mark.parametrize(("edit", "before", "after"), OTHER, ids=[case[0] for case in OTHER])
def test_edits_that_may_change_behaviour_change_the_hash(edit, before, after, tmp_path):
    assert hash_of(tmp_path, before) != hash_of(tmp_path, after)


def test_imports_are_followed_where_they_may_be_done(tmp_path):
    root = tree(
        tmp_path,
        {
            "astro/work.py": """
                from typing import TYPE_CHECKING
                import json
                from astro import direct
                if TYPE_CHECKING:
                    from astro import types
                def main():
                    from astro.inside import deep
                    start(["-m", "astro.started", "astro.named:function"])
            """,
            "astro/direct.py": "from astro.package.one import ONE",
            "astro/types.py": "",
            "astro/inside.py": "deep = 1",
            "astro/started.py": "",
            "astro/named.py": "",
            "astro/unused.py": "",
            # run because a module of it is imported, but nobody calls its functions
            "astro/package/__init__.py": "from astro.package.two import TWO\ndef f():\n    import astro.unused",
            "astro/package/one.py": "ONE = 1",
            "astro/package/two.py": "TWO = 2",
        },
    )
    names = {
        path.removeprefix("astro/").removesuffix(".py") for path in reached(root) if not path.endswith("__init__.py")
    }
    assert names == {"stages/go", "work", "direct", "inside", "started", "named", "package/one", "package/two"}


def test_modules_of_another_task_and_those_without_effect_are_left_out(tmp_path):
    root = tree(
        tmp_path,
        {
            "astro/work.py": """
                import astro.log
                import astro.importing.sums
                import astro.importing.words
                import astro.tasks.sums.rules
                import astro.tasks.words.rules
            """,
            "astro/log.py": "AFFECTS_RESULTS = False\nimport astro.only_of_log",
            "astro/only_of_log.py": "",
            "astro/importing/sums.py": "",
            "astro/importing/words.py": "",
        },
    )
    found = reached(root, "sums")
    assert {"astro/importing/sums.py", "astro/tasks/sums/rules.py"} <= found
    assert not [path for path in found if "words" in path or "log" in path]
    assert "astro/importing/words.py" in reached(root, "words")


def test_files_beside_a_module_count_by_their_content(tmp_path):
    files = {
        "astro/work.py": "import astro.tasks.sums.rules",
        "astro/tasks/sums/prompts/ask.txt": "What is it?",
        "astro/tasks/words/prompts/ask.txt": "Which word?",
        "astro/tasks/sums/deeper/__init__.py": "",
        "astro/tasks/sums/deeper/own.txt": "of another package, which nobody imports",
    }
    before = Sources(tree(tmp_path, files)).identity("go", "sums")
    assert [path for path in before if path.endswith(".txt")] == ["astro/tasks/sums/prompts/ask.txt"]
    (tmp_path / "astro/tasks/sums/prompts/ask.txt").write_text("What is it? \n")
    assert differences(before, Sources(tmp_path).identity("go", "sums")) == ["astro/tasks/sums/prompts/ask.txt"]


# the module, what is said of it
BROKEN = [
    ("def f(:", r"astro/work\.py, line 1: invalid syntax"),
    ("import json\nfrom . import other", r"astro/work\.py, line 2: relative import"),
    ("def main(name):\n    import_module(name)", r"astro/work\.py, line 2: this import cannot be followed"),
    ("importlib.import_module(f'astro.{x}')", r"line 1: this import cannot be followed"),
    ("__import__(x)", r"line 1: this import cannot be followed"),
]


@pytest.mark.parametrize(("text", "said"), BROKEN)
def test_what_cannot_be_followed_is_refused(text, said, tmp_path):
    with pytest.raises(IdentityError, match=said):
        reached(tree(tmp_path, {"astro/work.py": text}))


def test_an_import_by_name_is_followed_through_the_literal(tmp_path):
    files = {
        "astro/work.py": f"NAME = 'astro.named:f'\nimportlib.import_module(name)  {BY_LITERAL}\nimport_module('astro.other')",
        "astro/named.py": "",
        "astro/other.py": "",
    }
    assert {"astro/named.py", "astro/other.py"} <= reached(tree(tmp_path, files))


def test_every_module_of_the_project_can_be_followed():
    sources = Sources(ROOT)
    for module in sources.modules:
        sources.imports(module, True)


def test_the_files_are_the_same_every_time_and_name_what_they_should(tmp_path):
    written = list(write_all("countdown", ROOT, tmp_path))
    assert len(written) == len(scripts())
    sources = Sources(ROOT)
    assert (tmp_path / "sft.json").read_text() == text_of(sources.identity("sft", "countdown"))
    base = sources.identity("base", "countdown")
    assert "astro/training/train_base.py" in base
    assert not [path for path in base if path.startswith(("astro/search", "astro/inference", "astro/grading"))]
    assert "astro/search/core.py" in sources.identity("mcts", "countdown")
    assert not [path for path in sources.identity("mcts", "countdown") if "/math/" in path or "verify" in path]
    assert "astro/tasks/math/prompts/math.txt" in sources.identity("mcts", "math")


def test_what_a_process_imports_is_what_was_followed(tmp_path):
    """The walker against Python itself: no module of ours that a stage's script loads is missing from its identity."""
    import subprocess
    import sys

    code = """
import json, sys
from astro.code_identity import Sources
import importlib
stage = sys.argv[1]
importlib.import_module(f"stages.{stage}")
ours = [m for m in sys.modules if m.split(".")[0] in ("astro", "schemas", "stages")]
s = Sources()
known, todo = s.reached(f"stages.{stage}", "countdown"), [m for m in ours if not s.affects(m)]
while todo:  # what only modules without effect import
    known |= {here := todo.pop()}
    todo += [m for m in s.imports(here, True) | set(s.packages(here)) if m not in known]
print(json.dumps([m for m in ours if m not in known]))
"""
    for stage in scripts():
        done = subprocess.run([sys.executable, "-c", code, stage], cwd=ROOT, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[]", stage
