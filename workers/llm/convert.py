"""The process that converts: `python -m workers.llm.convert CONVERTER MERGED TARGET QUANTIZATION [FALLBACK]`.

It runs llama.cpp's convert_hf_to_gguf.py of the folder CONVERTER as it is, with the gguf that lies beside it.
"""

import importlib
import sys
from typing import Any


def main(converter: str, merged: str, target: str, quantization: str, fallback: str | None = None) -> None:
    # Before what is installed: the converter needs the gguf of its own commit.
    sys.path[:0] = [converter, f"{converter}/gguf-py"]
    if fallback:
        _with_fallback(fallback)
    script: Any = importlib.import_module("convert_hf_to_gguf")
    sys.argv = ["convert_hf_to_gguf.py", merged, "--outfile", target, "--outtype", quantization]
    script.main()


def _with_fallback(fallback: str) -> None:
    """A tokenizer that llama.cpp does not know by its hash is split as `fallback` is: right for those alone that a test
    has made so. Any other must fail: it would read prompts wrongly.
    """
    model: Any = importlib.import_module("conversion.base").TextModel
    known = model.get_vocab_base_pre

    def or_fallback(self: Any, tokenizer: Any) -> str:
        try:
            name: str = known(self, tokenizer)
        except NotImplementedError:
            return fallback
        return name

    model.get_vocab_base_pre = or_fallback


if __name__ == "__main__":
    main(*sys.argv[1:])
