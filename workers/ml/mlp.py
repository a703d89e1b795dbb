"""A multilayer perceptron in torch, with scikit-learn's `fit` and `predict_proba`."""

import copy
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from workers.ml.classes import Matrix
from workers.ml.estimator import Effort, NotConverged, Weighted
from workers.ml.published import Layer


@dataclass
class MLP:
    """ReLU layers with dropout, AdamW, weighted cross-entropy, early stopping with the best epoch kept."""

    width: int
    depth: int
    dropout: float
    learning_rate: float
    weight_decay: float
    effort: Effort
    network: nn.Sequential = field(init=False, repr=False)

    def fit(self, rows: Weighted, stop: Weighted) -> "MLP":
        """Learns from `rows` until the loss on `stop` stays up for `patience` epochs. Raises NotConverged."""
        device = _deterministic_device()
        torch.manual_seed(self.effort.seed)
        self.network = self._build(rows.features.shape[1], int(rows.classes.max()) + 1).to(device)
        learn, watch = _tensors(rows, device), _tensors(stop, device)
        self._run(learn, watch)
        self.network = self.network.cpu().eval()
        return self

    def go_on(self, layers: Sequence[Layer], rows: Weighted, stop: Weighted) -> "MLP":
        """From these layers, which stay where no epoch is better on `stop`. Raises NotConverged."""
        device = _deterministic_device()
        torch.manual_seed(self.effort.seed)
        self.network = self._build(rows.features.shape[1], int(rows.classes.max()) + 1)
        self._take_over(layers)
        self.network = self.network.to(device)
        self._run(_tensors(rows, device), _tensors(stop, device), goes_on=True)
        self.network = self.network.cpu().eval()
        return self

    def predict_proba(self, features: Matrix) -> Matrix:
        with torch.inference_mode():
            probabilities: Matrix = self.network(torch.from_numpy(features)).softmax(dim=1).numpy()
        return probabilities

    @property
    def layers(self) -> list[tuple[Matrix, Matrix]]:
        """(weights, bias) of each layer, weights (inputs, outputs)."""
        linear = [module for module in self.network if isinstance(module, nn.Linear)]
        return [(m.weight.detach().numpy().T.copy(), m.bias.detach().numpy().copy()) for m in linear]

    def _build(self, inputs: int, classes: int) -> nn.Sequential:
        modules: list[nn.Module] = []
        for _ in range(self.depth):
            modules += [nn.Linear(inputs, self.width), nn.ReLU(), nn.Dropout(self.dropout)]
            inputs = self.width
        return nn.Sequential(*modules, nn.Linear(inputs, classes))

    def _take_over(self, layers: Sequence[Layer]) -> None:
        """Of two classes a published network has the difference of their logits alone."""
        linear = [module for module in self.network if isinstance(module, nn.Linear)]
        for module, (weights, bias) in zip(linear, layers, strict=True):
            missing = module.out_features - len(bias)
            whole = np.pad(weights, ((0, 0), (missing, 0))), np.pad(bias, (missing, 0))
            module.weight.data, module.bias.data = torch.from_numpy(whole[0].T.copy()), torch.from_numpy(whole[1])

    def _run(self, learn: "_Tensors", watch: "_Tensors", *, goes_on: bool = False) -> None:
        optimizer = torch.optim.AdamW(self.network.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay)
        best, best_state, waited = _trivial_loss(learn, watch), None, 0
        if goes_on:
            best, best_state = self._loss(watch), copy.deepcopy(self.network.state_dict())
        for epoch in range(self.effort.epochs):
            training_loss = self._epoch(learn, optimizer)
            loss = self._loss(watch)
            self.effort.on_epoch(epoch, training_loss, loss)
            if not math.isfinite(training_loss) or not math.isfinite(loss):
                raise NotConverged(f"the loss of the MLP was not finite in epoch {epoch + 1}")
            if loss < best:
                best, best_state, waited = loss, copy.deepcopy(self.network.state_dict()), 0
            elif (waited := waited + 1) >= self.effort.patience and best_state is not None:
                break
        if best_state is None:
            raise NotConverged(f"{self.effort.epochs} epochs of the MLP never beat a constant answer (loss {best:.4f})")
        self.network.load_state_dict(best_state)

    def _epoch(self, rows: "_Tensors", optimizer: torch.optim.Optimizer) -> float:
        self.network.train()
        total = 0.0
        for batch in torch.split(torch.randperm(len(rows.classes)), self.effort.batch_size):
            optimizer.zero_grad()
            share = rows.weights[batch].sum()
            for part in batch.chunk(self.effort.accumulation):
                loss = self._summed_loss(rows, part) / share
                loss.backward()  # type: ignore[no-untyped-call]  # torch leaves Tensor.backward untyped
                total += loss.item() * share.item()
            optimizer.step()
        return total / float(rows.weights.sum())

    def _summed_loss(self, rows: "_Tensors", part: torch.Tensor) -> torch.Tensor:
        losses = nn.functional.cross_entropy(self.network(rows.features[part]), rows.classes[part], reduction="none")
        return (losses * rows.weights[part]).sum()

    def _loss(self, rows: "_Tensors") -> float:
        self.network.eval()
        with torch.inference_mode():
            parts = torch.split(torch.arange(len(rows.classes)), 8192)
            return float(sum(self._summed_loss(rows, part) for part in parts) / rows.weights.sum())


@dataclass(frozen=True)
class _Tensors:
    features: torch.Tensor
    classes: torch.Tensor
    weights: torch.Tensor


def _tensors(rows: Weighted, device: torch.device) -> _Tensors:
    features, classes = torch.from_numpy(rows.features), torch.from_numpy(rows.classes)
    return _Tensors(features.to(device), classes.to(device), torch.from_numpy(rows.weights).float().to(device))


def _trivial_loss(learn: _Tensors, watch: _Tensors) -> float:
    """The loss on `watch` of answering with the weighted class shares of `learn`, whatever the row."""
    shares = torch.bincount(learn.classes, weights=learn.weights) / learn.weights.sum()
    return float(-(shares.log()[watch.classes] * watch.weights).sum() / watch.weights.sum())


def _deterministic_device() -> torch.device:
    # cuBLAS is reproducible only with a fixed workspace, and reads this when the first kernel starts.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
