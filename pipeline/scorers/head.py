"""A logistic head over embeddings, stored without pickle."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline import atomic
from pipeline.config.shown import shortened
from pipeline.errors import UserError

_REMEDY = "delete it and run `dvc repro` to fit the judge again"


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
    """Read the head of an encoder with `dimension` outputs.

    Raises UserError when it is absent, not finite, or of another shape or type.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    place = atomic.staged(path)
    if not place.is_file():
        found = "expected a file, found a folder; delete it and" if place.is_dir() else "not found;"
        raise UserError(f"{path}: {found} run `dvc repro` (or `dvc pull`) to fit the judge")
    try:
        tensors = load_file(place)
    except (SafetensorError, OSError, KeyError, TypeError) as error:  # the last two: a type that numpy does not have
        raise UserError(f"{path}: expected safetensors, got {shortened(str(error))}; {_REMEDY}") from None
    shapes = {name: (tensor.dtype.name, *tensor.shape) for name, tensor in sorted(tensors.items())}
    expected = {"bias": ("float32", 1), "weight": ("float32", dimension)}
    if shapes != expected:
        raise UserError(f"{path}: expected tensors {expected}, got {shortened(str(shapes), 300)}; {_REMEDY}")
    broken = [name for name, tensor in sorted(tensors.items()) if not np.isfinite(tensor).all()]
    if broken:
        raise UserError(f"{path}: expected finite weights, got NaN or infinity in {', '.join(broken)}; {_REMEDY}")
    return Head(weight=tensors["weight"], bias=tensors["bias"])
