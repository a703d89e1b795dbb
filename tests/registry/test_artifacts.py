"""Published files: whole, verified, and never executable."""

import ast
from pathlib import Path

import pytest

from app.registry import artifacts
from app.registry.artifacts import ArtifactCorrupt, Manifest
from tests.artifacts import publish

ROOT = Path(__file__).parents[2]
UNPICKLERS = {"pickle", "_pickle", "marshal", "shelve", "joblib", "dill", "cloudpickle"}
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
    with pytest.raises(ArtifactCorrupt, match=r"schema\.json"):
        artifacts.verify(tmp_path, digest)


@pytest.mark.parametrize("name", ["model.pkl", "model.pt", "model.joblib", "setup.py"])
def test_nothing_that_could_be_executed_is_published(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "new"
    folder.mkdir()
    (folder / name).write_bytes(b"x")
    with pytest.raises(ValueError, match="may only hold"):
        artifacts.publish(tmp_path, folder, MANIFEST)
    assert not (tmp_path / "artifacts").exists()


@pytest.mark.parametrize("package", ["app", "workers"])
def test_no_code_of_refit_can_load_a_pickle(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    assert [file for file in files if any(map(unpickles, ast.walk(ast.parse(file.read_text()))))] == []


def unpickles(node: ast.AST) -> bool:
    """torch.load unpickles unless it is told to read weights only; numpy only where it is asked to."""
    match node:
        case ast.Import(names=names):
            return any(name.name.partition(".")[0] in UNPICKLERS for name in names)
        case ast.ImportFrom(module=str(module)):
            return module.partition(".")[0] in UNPICKLERS
        case ast.Call(func=ast.Attribute(value=ast.Name(id="torch"), attr="load"), keywords=given):
            return not any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in given)
        case ast.keyword(arg="allow_pickle", value=value):
            return ast.unparse(value) != "False"
    return False
