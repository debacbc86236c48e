"""A logistic head over embeddings, stored without pickle."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline import atomic
from pipeline.errors import UserError


@dataclass(frozen=True)
class Head:
    """Weight [D] and bias [1], float32: toxicity = sigmoid(embedding . weight + bias)."""

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]

    def probabilities(self, embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the toxicity [N] of embeddings [N, D], computed in float64; NaN stays NaN."""
        logits = embeddings.astype(np.float64) @ self.weight.astype(np.float64) + float(self.bias[0])
        return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logits)))  # the sigmoid, without overflow

    def save(self, path: Path) -> None:
        """Write the head as safetensors."""
        from safetensors.numpy import save

        with atomic.replacing(path) as temporary:
            temporary.write_bytes(save({"weight": self.weight, "bias": self.bias}))


def load_head(path: Path, dimension: int) -> Head:
    """Read the head of an encoder with `dimension` outputs; raise UserError when it is absent or of another shape."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        tensors = load_file(atomic.staged(path))
    except FileNotFoundError:
        raise UserError(f"{path}: not found; run `dvc repro` (or `dvc pull`) to fit the judge") from None
    except SafetensorError as error:
        raise UserError(f"{path}: expected safetensors, got {error}; delete it and run `dvc repro`") from None
    shapes = {name: tensor.shape for name, tensor in sorted(tensors.items())}
    expected = {"bias": (1,), "weight": (dimension,)}
    if shapes != expected:
        raise UserError(f"{path}: expected tensors {expected}, got {shapes}; delete it and run `dvc repro`")
    return Head(weight=tensors["weight"], bias=tensors["bias"])
