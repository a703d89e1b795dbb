"""A worker announces the GPUs that its attempts may use, and lives on where the driver does not."""

import logging
from pathlib import Path

import pytest

from workers import gpus

H100 = "NVIDIA H100 80GB HBM3, 81559, 80994"


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What `nvidia-smi` says, in a script of that name."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path / "nvidia-smi"


def says(driver: Path, script: str) -> None:
    driver.write_text(f"#!/bin/sh\n{script}\n")
    driver.chmod(0o755)


def test_each_device_is_announced_with_its_memory(driver: Path) -> None:
    says(driver, f"echo '{H100}'; echo 'GB10, [N/A], [N/A]'")
    assert gpus.present() == [
        {"name": "NVIDIA H100 80GB HBM3", "memory_total_mib": 81_559, "memory_free_mib": 80_994},
        {"name": "GB10", "memory_total_mib": None, "memory_free_mib": None},
    ]


def test_only_what_attempts_may_use_is_asked_for(driver: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    says(driver, 'echo "$*, 1, 1"')
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,3")
    [gpu] = gpus.present() or []
    assert "--id=1,3" in gpu["name"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpus.present() is None


def test_a_machine_without_a_driver_or_with_a_broken_one_has_none(
    driver: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.WARNING)
    assert gpus.present() is None
    for broken in ("exit 9", "echo 'No devices were found'", "exec sleep 5"):
        says(driver, broken)
        monkeypatch.setattr(gpus, "ANSWER_SECONDS", 0.3)
        assert gpus.present() is None
    assert len(caplog.records) == 3
