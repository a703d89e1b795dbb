"""Published files: whole, verified, and never executable."""

from pathlib import Path

import pytest

from app.registry import artifacts
from app.registry.artifacts import ArtifactCorrupt, Manifest
from tests.artifacts import publish

MANIFEST = Manifest(format="onnx", model_type="classifier", data_version="d", code_revision="r", files={}, details={})


def test_an_artifact_is_named_by_the_digest_of_every_byte_in_it(tmp_path: Path) -> None:
    one = publish(tmp_path, tmp_path / "one")
    same = publish(tmp_path, tmp_path / "same")
    other = publish(tmp_path, tmp_path / "other", bias=1.0)
    assert one == same != other
    folder, manifest = artifacts.verify(tmp_path, one)
    assert folder.name == manifest.digest == one


@pytest.mark.parametrize("name", ["model.onnx", "schema.json", "manifest.json"])
def test_an_artifact_with_one_changed_byte_is_not_loaded(tmp_path: Path, name: str) -> None:
    digest = publish(tmp_path, tmp_path / "new")
    file = artifacts.folder_of(tmp_path, digest) / name
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ArtifactCorrupt, match=name):
        artifacts.verify(tmp_path, digest)


def test_an_artifact_with_a_missing_file_is_not_loaded(tmp_path: Path) -> None:
    digest = publish(tmp_path, tmp_path / "new")
    (artifacts.folder_of(tmp_path, digest) / "schema.json").unlink()
    with pytest.raises(ArtifactCorrupt, match="schema.json"):
        artifacts.verify(tmp_path, digest)


@pytest.mark.parametrize("name", ["model.pkl", "model.pt", "model.joblib", "setup.py"])
def test_nothing_that_could_be_executed_is_published(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "new"
    folder.mkdir()
    (folder / name).write_bytes(b"x")
    with pytest.raises(ValueError, match="may only hold"):
        artifacts.publish(tmp_path, folder, MANIFEST)
    assert not (tmp_path / "artifacts").exists()
