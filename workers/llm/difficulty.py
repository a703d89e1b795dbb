"""How hard a row is for the base model: its mean loss on the answer's tokens, before anything is learnt."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from workers.llm.params import LlmParams
from workers.llm.training import load_base, on_gpu


def losses(
    params: LlmParams, base: Path, rows: Any, places: Sequence[int], progress: Callable[[int], None]
) -> list[float]:
    """In nats a token, in the order of `places`. `progress` hears how many rows are done. Rows of like length together.

    Answers stand at the end of a row, so padding stands before it, and logits are computed for answers alone.
    """
    import torch

    device = "cuda" if on_gpu() else "cpu"
    model = load_base(params, base)
    model = model.eval() if params.load_in else model.to(device).eval()
    told = rows.select_columns(["input_ids", "labels"])
    by_length = sorted(places, key=lambda place: rows[place]["tokens"])
    found: dict[int, float] = {}
    with torch.inference_mode():
        for first in range(0, len(by_length), params.batch_size):
            chosen = by_length[first : first + params.batch_size]
            batch = [told[place] for place in chosen]
            found |= dict(zip(chosen, _mean_losses(model, batch, device), strict=True))
            progress(first + len(chosen))
    return [found[place] for place in places]


def _mean_losses(model: Any, batch: Sequence[dict[str, list[int]]], device: str) -> list[float]:
    import torch

    ids = _left_padded([row["input_ids"] for row in batch], 0, device)
    labels = _left_padded([row["labels"] for row in batch], -100, device)
    seen = _left_padded([[1] * len(row["input_ids"]) for row in batch], 0, device)
    answered = (labels != -100).any(0).nonzero()
    kept = ids.shape[1] - int(answered[0]) + 1
    positions = (seen.cumsum(1) - 1).clamp(min=0)
    logits = model(input_ids=ids, attention_mask=seen, position_ids=positions, logits_to_keep=kept).logits.float()
    wanted = labels[:, -(logits.shape[1] - 1) :]
    each = torch.nn.functional.cross_entropy(logits[:, :-1].transpose(1, 2), wanted, reduction="none")
    mean: list[float] = (each.sum(1) / (wanted != -100).sum(1)).tolist()
    return mean


def _left_padded(rows: Sequence[Sequence[int]], filling: int, device: str) -> Any:
    import torch

    longest = max(map(len, rows))
    return torch.tensor([[filling] * (longest - len(row)) + list(row) for row in rows], device=device)
