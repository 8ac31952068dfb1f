"""The smoke pipeline, run once for all tests of this folder."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.pipeline.checkout import REPOSITORY, Checkout, Done, environment, project_files


@dataclass(frozen=True)
class Smoke:
    """The checkout after `dvc repro` with the smoke profile. Not to be changed: take a `copy`."""

    checkout: Checkout
    done: Done


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A fresh checkout with the smoke profile, committed; nothing has run."""
    root = tmp_path_factory.mktemp("smoke") / "astro"
    for path in project_files():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / path, target, follow_symlinks=False)
    checkout = Checkout(root, environment())
    checkout.run("git", "init", "-q")
    checkout.run("git", "config", "user.name", "Test")
    checkout.run("git", "config", "user.email", "test@localhost")
    checkout.commit("The project")
    checkout.run("python", "-m", "astro.profiles", "apply", "smoke")
    checkout.commit("Smoke profile")
    return checkout


@pytest.fixture(scope="session")
def smoke(clone: Checkout) -> Smoke:
    """The pipeline, really run: two to three minutes on two cores."""
    done = clone.run("dvc", "repro")
    print(f"smoke pipeline: {done.seconds:.0f} s")
    clone.commit("Results")
    return Smoke(clone, done)


@pytest.fixture
def copy(smoke: Smoke, tmp_path: Path) -> Checkout:
    """A copy of the finished checkout that a test may change."""
    return smoke.checkout.copy(tmp_path / "astro")
