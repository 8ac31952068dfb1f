"""The smoke pipeline, run once for all tests of this folder."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.pipeline.checkout import Checkout, Done, unpacked


@dataclass(frozen=True)
class Smoke:
    """The checkout after `dvc repro` with the smoke profile. Not to be changed: take a `copy`."""

    checkout: Checkout
    done: Done


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A fresh checkout with the smoke profile, committed; nothing has run."""
    checkout = unpacked(tmp_path_factory.mktemp("smoke") / "astro")
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


def require_same_training(ours: Checkout, theirs: Checkout, name: str) -> None:
    """Curve and metrics to the byte; weights but for the last digits."""
    curve = f"metrics/curves/{name}.csv"
    assert (ours.root / curve).read_text() == (theirs.root / curve).read_text()
    assert ours.md5(f"metrics/{name}.json") == theirs.md5(f"metrics/{name}.json")
    a, b = (load_file(c.root / f"models/{name}/model.safetensors") for c in (ours, theirs))
    assert a.keys() == b.keys()
    assert max(float((a[key] - b[key]).abs().max()) for key in a) < 1e-6


@pytest.fixture
def copy(smoke: Smoke, tmp_path: Path) -> Checkout:
    """A copy of the finished checkout that a test may change."""
    return smoke.checkout.copy(tmp_path / "astro")
