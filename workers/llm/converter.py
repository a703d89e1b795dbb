"""safetensors → GGUF, by llama.cpp's own converter. `python -m workers.llm.converter fetch` brings it.

It is in no wheel. The source package of llama-cpp-python (MIT) has all of llama.cpp; its converter, 2 MB of Python, is
taken out of it into `share/llama.cpp` of this environment, or REFIT_LLAMA_CPP_DIR. Nothing is compiled.
"""

import errno
import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections import deque
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from app.settings import settings
from workers.llm import disk
from workers.pipeline import PipelineError

PACKAGE = "llama-cpp-python==0.3.36"
SHA256 = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"
INSIDE = PurePosixPath("llama_cpp_python-0.3.36/vendor/llama.cpp")
TAKEN = ("convert_hf_to_gguf.py", "conversion", "gguf-py/gguf", "gguf-py/LICENSE", "LICENSE")
FETCH = "python -m workers.llm.converter fetch"
# Bytes of a parameter; q8_0 has 32 of them in 34 bytes.
BYTES = {"f32": 4.0, "f16": 2.0, "bf16": 2.0, "q8_0": 34 / 32}
LAST_LINES = 15


def convert(merged: Path, target: Path, quantization: str) -> None:
    """The GGUF of the model in `merged`. In a process of the caller's group, so that a cancelled job takes it along.

    Raises PipelineError `converter_missing`, `conversion_failed` with the converter's last lines, or OSError ENOSPC.
    """
    found = find()
    command = [sys.executable, "-m", "workers.llm.convert", str(found), str(merged), str(target), quantization]
    if settings().gguf_pre_fallback:
        command.append(settings().gguf_pre_fallback or "")
    # Nothing of a model is fetched: it lies in the folder.
    offline = os.environ | {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    said: deque[str] = deque(maxlen=LAST_LINES)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=offline) as process:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line.decode(errors="replace").rstrip())
    if process.returncode == 0 and target.is_file():
        return
    if disk.says_full(said[-1] if said else ""):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
    raise _failed(process.returncode, said)


def find() -> Path:
    """The folder of the converter. Raises PipelineError `converter_missing`."""
    folder = place()
    if (folder / "convert_hf_to_gguf.py").is_file():
        return folder
    raise PipelineError(
        "converter_missing",
        f"llama.cpp's converter is not in {folder}.",
        f"Fetch it on this worker: {FETCH}. Or name a checkout of llama.cpp in REFIT_LLAMA_CPP_DIR. Then resume.",
    )


def place() -> Path:
    return settings().llama_cpp_dir or Path(sys.prefix) / "share" / "llama.cpp"


def fetch() -> Path:
    """Downloads the package by pip and its configuration, unless this very one is there already; about ten seconds.

    Raises subprocess.CalledProcessError where pip cannot get it, or what it gets has another sha256.
    """
    folder = place()
    if _version(folder) == SHA256:
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".llama.cpp-") as made:
        unpacked = Path(made) / "llama.cpp"
        _unpack(_download(Path(made)), unpacked)
        (unpacked / "VERSION").write_text(SHA256)
        if folder.exists():
            folder.rename(Path(made) / "before")
        unpacked.rename(folder)
    return folder


def _download(into: Path) -> Path:
    """pip compares the hash before anything of the package is run; the metadata that it asks for compiles nothing."""
    wanted = into / "wanted.txt"
    wanted.write_text(f"{PACKAGE} --hash=sha256:{SHA256}\n")
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-binary", "llama-cpp-python"]
    subprocess.run([*_pip(), "download", *options, "--require-hashes", "-r", wanted, "-d", into], check=True)
    return next(into.glob("*.tar.gz"))


def _pip() -> list[str]:
    """An environment that only runs things has no pip; that of the Python in the PATH installed it."""
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    return [shutil.which("python3") or "python3", "-m", "pip"]


def _unpack(package: Path, folder: Path) -> None:
    with tarfile.open(package) as archive:
        for member, name in _wanted(archive):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            source = archive.extractfile(member)
            assert source is not None
            path.write_bytes(source.read())


def _wanted(archive: tarfile.TarFile) -> Iterator[tuple[tarfile.TarInfo, PurePosixPath]]:
    for member in archive:
        path = PurePosixPath(member.name)
        if member.isfile() and path.is_relative_to(INSIDE):
            name = path.relative_to(INSIDE)
            if any(name.is_relative_to(taken) for taken in TAKEN):
                yield member, name


def _version(folder: Path) -> str | None:
    try:
        return (folder / "VERSION").read_text()
    except OSError:
        return None


def _failed(status: int, said: deque[str]) -> PipelineError:
    return PipelineError(
        "conversion_failed",
        f"llama.cpp's converter ended with status {status}: " + "\n".join(said),
        "An architecture or a tokenizer that it does not know needs a newer converter (a checkout of llama.cpp in "
        "REFIT_LLAMA_CPP_DIR); then resume the job: it goes on at this stage. Another base model is trained anew.",
    )


if __name__ == "__main__":
    if sys.argv[1:] != ["fetch"]:
        sys.exit(f"usage: {FETCH}")
    print(f"llama.cpp's converter is in {fetch()}")
