"""An encoder of Hugging Face's → the files that `app.runtimes.embedding` reads, and the proof that both embed alike.

<shared>/encoders/<digest>/   encoder.onnx, tokenizer.json, encoder.json: made once, and then shared by all workers
"""

import hashlib
import os
import shutil
import uuid
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from app.registry.artifacts import sync_folder
from app.runtimes import embedding
from app.runtimes.embedding import Embeddings, EncoderRule
from workers.ml.encoders import Encoder
from workers.pipeline import PipelineError

if TYPE_CHECKING:
    import torch

# Least cosine between an embedding by torch and by what is published: of any text, and on average.
LIMITS = {"fp32": (0.9999, 0.99999), "int8": (0.90, 0.98)}
PROBES = 64
OPSET = 18
FILES = ("encoder.onnx", "tokenizer.json", "encoder.json")


def export(source: Encoder, rule: EncoderRule, shared: Path, texts: Sequence[str], threads: int) -> Path:
    """The folder of the exported encoder; made, and compared with torch on `texts`, where nobody has done so before.

    Raises PipelineError `encoder_unsupported` or `export_mismatch`.
    """
    described = orjson.dumps(rule.model_dump(mode="json") | {"opset": OPSET}, option=orjson.OPT_SORT_KEYS)
    folder = shared / "encoders" / hashlib.sha256(described).hexdigest()
    if not folder.is_dir():
        partial = folder.with_name(f".{uuid.uuid4().hex}")
        partial.mkdir(parents=True)
        try:
            _make(source, rule, partial, texts[:PROBES], threads)
            _publish(partial, folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return folder


def link(folder: Path, into: Path) -> None:
    """Puts the encoder's files into an artifact: the bytes are on the disk once, where the disk has links."""
    into.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        try:
            os.link(folder / name, into / name)
        except OSError:
            shutil.copyfile(folder / name, into / name)


def cosines(one: Embeddings, other: Embeddings) -> Embeddings:
    """(n,) of embeddings of length 1."""
    found: Embeddings = np.einsum("nd,nd->n", one, other)
    return found


def _make(source: Encoder, rule: EncoderRule, folder: Path, texts: Sequence[str], threads: int) -> None:
    model = _torch_model(source)
    _to_onnx(model, folder / "encoder.onnx")
    if rule.precision == "int8":
        _quantize(folder / "encoder.onnx")
    shutil.copyfile(source.folder / "tokenizer.json", folder / "tokenizer.json")
    (folder / "encoder.json").write_bytes(orjson.dumps(rule.model_dump(mode="json"), option=orjson.OPT_INDENT_2))
    _compare(model, embedding.Encoder(folder, threads), texts)


def _torch_model(source: Encoder) -> "torch.nn.Module":
    """Tokens → embedding of length 1, with the pooling inside. Raises PipelineError `encoder_unsupported`."""
    import torch
    from transformers import AutoModel

    try:
        encoder, loaded = AutoModel.from_pretrained(
            source.folder,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=source.with_code,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except (ValueError, KeyError, OSError, ImportError) as error:
        raise _unsupported(source, f"transformers cannot load it: {error}") from error
    # An architecture of the same name may lack what the weights were made for; the pooler is not used here.
    strange = sorted(key for key in loaded["missing_keys"] if not key.startswith("pooler."))
    strange += sorted(map(str, loaded["mismatched_keys"]))
    if strange:
        raise _unsupported(source, f"its weights do not fit the architecture of transformers ({strange[0]})")
    encoder.eval()
    takes_types = getattr(encoder.config, "type_vocab_size", 0) > 0

    class Pooled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder
            self.names = ["input_ids", "attention_mask", *(["token_type_ids"] if takes_types else [])]

        def forward(self, *tokens: torch.Tensor) -> torch.Tensor:
            given = dict(zip(self.names, tokens, strict=True))
            hidden = self.encoder(**given).last_hidden_state
            if source.pooling == "cls":
                pooled = hidden[:, 0]
            else:
                mask = given["attention_mask"].unsqueeze(-1).to(hidden.dtype)
                pooled = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
            return torch.nn.functional.normalize(pooled, p=2, dim=1)

    return Pooled().eval()


def _unsupported(source: Encoder, why: str) -> PipelineError:
    return PipelineError(
        "encoder_unsupported",
        f"The encoder {source.name} cannot be used: {why}.",
        "If its architecture is code beside the weights, and you trust it, set training.trust_remote_code and "
        "training.encoder_revision. Else choose another encoder.",
    )


def _to_onnx(model: Any, path: Path) -> None:
    import torch

    batch, tokens = torch.export.Dim("batch", min=1, max=4096), torch.export.Dim("tokens", min=2, max=8192)
    given = tuple(torch.ones((2, 16), dtype=torch.int64) for _ in model.names)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, about its own future
        program = torch.onnx.export(
            model,
            given,
            dynamo=True,
            dynamic_shapes=(tuple({0: batch, 1: tokens} for _ in model.names),),
            input_names=model.names,
            output_names=["sentence_embedding"],
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    program.save(str(path), external_data=False)


def _quantize(path: Path) -> None:
    """Weights to int8, one scale a column: with one a matrix the embeddings differ too much (docs/adr/0010)."""
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    whole = path.with_suffix(".whole.onnx")
    quant_pre_process(path, whole, skip_symbolic_shape=True)
    quantize_dynamic(whole, path, weight_type=QuantType.QInt8, per_channel=True)
    whole.unlink()


def _compare(model: Any, published: embedding.Encoder, texts: Sequence[str]) -> None:
    """Each window alone by torch, all together by what will be published."""
    windows = published.windows(texts)[:PROBES]
    expected = np.concatenate([_alone(model, window.tokens) for window in windows])
    alike = cosines(expected, published.embed(windows))
    least, mean = LIMITS[published.rule.precision]
    # Written so that NaN fails too.
    if not (alike.min() >= least and alike.mean() >= mean):
        raise PipelineError(
            "export_mismatch",
            f"The exported encoder embeds {len(alike)} texts otherwise than torch does: cosine {alike.min():.5f} at "
            f"least and {alike.mean():.5f} on average; {least} and {mean} are required.",
            "Set training.precision to fp32, or choose another encoder.",
        )


def _alone(model: Any, tokens: Sequence[int]) -> Embeddings:
    import torch

    ids = torch.tensor([tokens])
    every = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
    with torch.no_grad():
        found: Embeddings = model(*(every[name] for name in model.names)).numpy()
    return found


def _publish(partial: Path, folder: Path) -> None:
    """Whoever is first; the others have made the same."""
    for name in FILES:
        with (partial / name).open("rb") as file:
            os.fsync(file.fileno())
    try:
        partial.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
    sync_folder(folder.parent)
