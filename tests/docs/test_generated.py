"""What a command writes into the documents is what they hold, and the site has every page."""

import contextlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from astro.dvc_files import read_pipeline
from astro.process import UserError
from tools.docs import generated_blocks, pictures, reference

ROOT = Path(__file__).parents[2]
REMEDY = "out of date: run `python -m tools.docs`"


@pytest.fixture(autouse=True)
def _root(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_every_parameter_has_a_meaning():
    """A new parameter gets one line of description in its schema."""
    assert [name for name, meaning in reference.described().items() if not meaning] == []


def test_the_page_of_parameters_is_current():
    assert (reference.FOLDER / "params.md").read_text(encoding="utf-8") == reference.params_page(), REMEDY


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="argparse lays its help out otherwise in other versions")
def test_the_page_of_commands_is_current():
    assert (reference.FOLDER / "cli.md").read_text(encoding="utf-8") == reference.cli_page(), REMEDY


@pytest.mark.parametrize("page", generated_blocks.PAGES)
def test_tables_and_output_in_a_page_are_current(page):
    text = Path(page).read_text(encoding="utf-8")
    assert text == generated_blocks.filled(text, page), REMEDY


@pytest.fixture(scope="module")
def drawn():
    with contextlib.chdir(ROOT):
        return pictures.all_pictures()


def test_pictures_are_current(drawn):
    """Their words and figures; the outlines of plots may differ in a digit with another version of matplotlib."""
    assert sorted(pictures.FOLDER.glob("*")) == sorted(drawn)
    for path, text in drawn.items():
        assert _words(path.read_text(encoding="utf-8")) == _words(text), f"{path}: {REMEDY}"


def _words(svg: str) -> list[str]:
    return re.findall(r">([^<>\n]+)<", svg.partition("</style>")[2])


def test_pictures_load_nothing(drawn):
    for path, text in drawn.items():
        assert set(re.findall(r"https?://[^\"' )]+", text)) <= {"http://www.w3.org/2000/svg"}, path


def test_the_diagram_shows_the_stages_of_the_pipeline():
    declared = set(read_pipeline({**YAML(typ="safe").load(Path("params.yaml"))})) - {"code"}
    assert {stage for _, _, stage, _ in pictures.PIPELINE} == declared


BAD = [
    ("<!-- begin nothing -->\n<!-- end nothing -->\n", "unknown block 'nothing'"),
    ("<!-- begin default-table -->\n", "has no matching begin or end"),
    ("<!-- end default-table -->\n", "has no matching begin or end"),
    ("<!-- begin default-table -->\n<!-- end seeds-table -->\n", "has no matching begin or end"),
]


@pytest.mark.parametrize(("page", "message"), BAD)
def test_a_mark_that_is_wrong_is_told(page, message):
    with pytest.raises(UserError, match=message):
        generated_blocks.filled(page, "page.md")


def test_a_block_is_replaced_and_the_rest_stays():
    page = "Before.\n<!-- begin direct-solution -->\nold\n<!-- end direct-solution -->\nAfter.\n"
    filled = generated_blocks.filled(page, "page.md")
    assert filled.startswith("Before.\n<!-- begin direct-solution -->\n```text\n")
    assert filled.endswith("```\n<!-- end direct-solution -->\nAfter.\n")
    assert "old" not in filled
    assert generated_blocks.filled(filled, "page.md") == filled


# --- the site ----------------------------------------------------------------------------------------------------------


def _site() -> dict:
    return YAML(typ="safe").load(Path("mkdocs.yml"))


def _pages(nav) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    return [page for entry in (nav.values() if isinstance(nav, dict) else nav) for page in _pages(entry)]


def test_the_site_has_every_page_once():
    assert sorted(_pages(_site()["nav"])) == sorted(str(p.relative_to("docs")) for p in Path("docs").rglob("*.md"))


def test_the_site_loads_nothing_from_elsewhere():
    assert _site()["theme"]["font"] is False
    assert not any(
        "//" in str(address) for key in ("extra_css", "extra_javascript") for address in _site().get(key, [])
    )


def test_the_readme_is_short():
    assert len(Path("README.md").read_text(encoding="utf-8").splitlines()) < 150


WRITTEN = [
    "README.md",
    "CONTRIBUTING.md",
    *sorted(str(p.relative_to(ROOT)) for p in (ROOT / "docs").rglob("*.md") if p.name != "log.md"),
]
"""The pages that say how things are. The log says how they were."""


@pytest.mark.parametrize("page", WRITTEN)
def test_a_page_names_files_that_are_here(page):
    text = Path(page).read_text(encoding="utf-8")
    links = [a for a in re.findall(r"\]\(([^)#]+)\)", text) + re.findall(r'src="([^"]+)"', text) if "//" not in a]
    assert [a for a in links if not (Path(page).parent / a).exists()] == []
    assert absent(text) == []


def absent(page: str) -> list[str]:
    """Files of the code that a page names in backticks and that do not exist. `x.py` is beside one that its line names."""
    found = []
    for line in page.splitlines():
        beside: list[Path] = []
        for name in re.findall(r"`([\w./*-]+)`", line):
            if re.match(r"(astro|benchmarks|compute|phrases|profiles|schemas|stages|tests|tools)/", name):
                found += [] if list(Path().glob(name.rstrip("/"))) else [name]
                beside.append(Path(name).parent)
            elif name.endswith(".py") and beside and not any((folder / name).exists() for folder in beside):
                found.append(name)
    return found


NAMED = [
    ("`astro/files.py`, `stages/sft.py`, `profiles/*.yaml`, `tests/data/` and `models/base`", []),
    ("`astro/tasks/math/task.py`, `solution_text.py`", []),
    ("`astro/tasks/math/task.py`, `text.py`", ["text.py"]),
    ("`astro/tasks/math/chain.py`", ["astro/tasks/math/chain.py"]),
    ("`profiles/none/*.yaml`", ["profiles/none/*.yaml"]),
    ("`my_task.py` is yours", []),
]


@pytest.mark.parametrize(("page", "expected"), NAMED)
def test_which_files_are_absent(page, expected):
    assert absent(page) == expected


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs", reason="make docs installs it")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    loaded = [
        address
        for page in (tmp_path / "site").rglob("*.html")
        for address in re.findall(
            r'<(?:script|img|iframe)[^>]+src="(https?:[^"]+)"|<link[^>]+rel="(?:stylesheet|preload)"[^>]+href="(https?:[^"]+)"',
            page.read_text(encoding="utf-8"),
        )
    ]
    assert loaded == []
