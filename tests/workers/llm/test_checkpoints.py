import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from workers.llm.checkpoints import newest_valid


def checkpoint(folder: Path, step: int) -> Path:
    made = folder / f"checkpoint-{step}"
    made.mkdir(parents=True)
    save_file({"lora": np.ones((4, 4), np.float32)}, made / "adapter_model.safetensors")
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        with zipfile.ZipFile(made / name, "w") as archive:
            archive.writestr("data", b"\x01" * 300)
    (made / "trainer_state.json").write_text("{}")
    return made


def cut(path: Path, by: int = 1) -> None:
    path.write_bytes(path.read_bytes()[:-by])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[content.index(b"\x01" * 9)] ^= 0xFF
    path.write_bytes(content)


def emptied(at: Path) -> None:
    shutil.rmtree(at)
    at.mkdir()


WAYS: list[Callable[[Path], object]] = [
    lambda at: (at / "trainer_state.json").unlink(),
    lambda at: (at / "trainer_state.json").write_text('{"step": 1'),
    lambda at: (at / "rng_state.pth").unlink(),
    lambda at: cut(at / "optimizer.pt"),
    lambda at: flip(at / "optimizer.pt"),
    lambda at: cut(at / "scheduler.pt", 200),
    lambda at: cut(at / "adapter_model.safetensors"),
    lambda at: (at / "adapter_model.safetensors").write_bytes(b"\x08"),
    emptied,
]


def test_the_newest_of_whole_checkpoints_is_taken_by_its_number(tmp_path: Path) -> None:
    assert newest_valid(tmp_path) is None
    for step in (9, 100, 20):
        checkpoint(tmp_path, step)
    assert newest_valid(tmp_path) == tmp_path / "checkpoint-100"


@pytest.mark.parametrize("way", range(len(WAYS)))
def test_one_that_is_not_whole_is_passed_over_and_deleted(tmp_path: Path, way: int) -> None:
    checkpoint(tmp_path, 10)
    WAYS[way](checkpoint(tmp_path, 20))
    assert newest_valid(tmp_path) == tmp_path / "checkpoint-10"
    assert not (tmp_path / "checkpoint-20").exists()
