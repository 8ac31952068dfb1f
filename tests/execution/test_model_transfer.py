"""A model on the nodes of a cluster: where it lies already, or brought along."""

import shutil

import pytest

from astro.execution import model_transfer
from astro.execution.model_transfer import transfer
from astro.inference.engine import EngineError


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "base"
    (folder / "deep").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "deep/weights").write_bytes(bytes(range(256)))
    return folder


def identity(content):
    return content


def test_a_model_that_lies_at_its_path_is_used_there(model):
    assert transfer(model, identity).at(identity) == model


@pytest.mark.parametrize("gone", ["config.json", "deep/weights", "."])  # a file, the other, all of it
def test_one_that_does_not_is_written_from_what_was_brought(model, gone):
    moved = transfer(model, identity)
    before = {p.name: p.read_bytes() for p in model.rglob("*") if p.is_file()}
    shutil.rmtree(model) if gone == "." else (model / gone).unlink()
    there = moved.at(identity)
    assert there != model
    assert {p.name: p.read_bytes() for p in there.rglob("*") if p.is_file()} == before
    shutil.rmtree(there)


def test_a_file_of_another_size_is_another_model(model):
    moved = transfer(model, identity)
    (model / "config.json").write_text("{ }")
    there = moved.at(identity)
    assert (there / "config.json").read_text() == "{}"
    shutil.rmtree(there)


def test_a_large_model_must_lie_on_a_shared_disk(model, monkeypatch):
    monkeypatch.setattr(model_transfer, "TRANSFER_BYTES", 100)
    moved = transfer(model, identity)
    assert moved.at(identity) == model
    shutil.rmtree(model)
    with pytest.raises(EngineError, match=r"base differs on node .*must be on a disk that the nodes share"):
        moved.at(identity)
