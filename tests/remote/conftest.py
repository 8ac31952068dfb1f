"""The servers, started once; a test that needs them is skipped with the reason where they cannot be."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.export.made_run import make_run
from tests.pipeline.checkout import Checkout
from tests.remote import servers


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if reason := servers.missing():
        pytest.skip(reason)
    return tmp_path_factory.mktemp("servers")


@pytest.fixture(scope="session")
def bucket(folder: Path) -> Iterator[servers.Bucket]:
    with servers.s3(folder) as made:
        yield made


@pytest.fixture(scope="session")
def database(folder: Path) -> Iterator[str]:
    with servers.postgres() as made:
        yield made


@pytest.fixture(scope="session")
def finished(folder: Path) -> Checkout:
    """A finished run, in the first member's clone."""
    return make_run(folder / "first")
