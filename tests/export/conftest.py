"""One finished run for all tests of this folder, and what is exported of it."""

from pathlib import Path

import pytest

from tests.export.made_run import make_run
from tests.pipeline.checkout import Checkout


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A finished run. Not to be changed: take a `copy`."""
    return make_run(tmp_path_factory.mktemp("run") / "astro")


@pytest.fixture(scope="session")
def exported(finished: Checkout) -> Path:
    """The default export of it, registered in its own store."""
    done = finished.run("python", "-m", "astro.export", "--to", str(finished.root.parent / "out"))
    assert "models:/astro@candidate is version 1" in done.out
    return finished.root.parent / "out"
