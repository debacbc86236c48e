"""The fitted judge: a frozen sentence encoder and the logistic head that the judge stage fits."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.config.declarations import ScorerKind
from pipeline.config.fields import Count, Section, Source
from pipeline.io import atomic, paths, records
from pipeline.io.atomic import staged
from pipeline.io.errors import UserError, shortened, shown
from pipeline.io.hashing import file_digest, files_digest
from pipeline.scorers import pretrained
from pipeline.scorers.pretrained import REMEDY, Window
from pipeline.scorers.scoring import fingerprint, score_each
from pipeline.sources import checkpoint

if TYPE_CHECKING:
    from torch import Tensor


class EmbeddingHeadScorer(Section):
    """A frozen sentence encoder with mean pooling and a logistic head that the judge stage fits."""

    kind: Literal["embedding_head"]
    source: Source
    max_tokens: Count


class Encoder:
    """Turn texts into embeddings: transformer, mean over real tokens, and unit length where the checkpoint says so."""

    def __init__(self, folder: Path, max_tokens: int) -> None:
        """Load a checkpoint from `folder`, never from a network; raise UserError when it is not such a checkpoint.

        `max_tokens` counts the special tokens around a text; a longer text is cut there.
        """
        from transformers import AutoModel

        self._normalizes = _normalizes(folder)
        config = pretrained.read_config(folder)
        pretrained.check_sizes(folder, config, ("hidden_size", "max_position_embeddings", "vocab_size"))
        tokenizer = pretrained.load_tokenizer(folder)
        self._model = pretrained.load_model(folder, AutoModel, "an encoder", unused=("pooler.",))
        pretrained.check_tokens(folder, tokenizer, int(self._model.config.vocab_size))
        pretrained.check_window(folder, self._model, max_tokens)
        self._window = Window(tokenizer, max_tokens)
        with checkpoint.reading(folder, "an encoder that embeds a word", REMEDY):  # a decoder cannot, for one
            self.encode(["word"])

    @property
    def dimension(self) -> int:
        """Return D, the length of an embedding."""
        return int(self._model.config.hidden_size)

    def encode(self, texts: Sequence[str], progress: str = "encoding") -> NDArray[np.float32]:
        """Return embeddings [N, D] in the order of `texts`; `progress` names the progress bar on a terminal.

        The mask keeps padding out of every embedding.
        """
        embeddings = np.empty((len(texts), self.dimension), dtype=np.float32)
        for places, batch in self._window.batches(texts, progress):
            embeddings[places] = self._encode_batch(batch).numpy()
        return embeddings

    def cut(self, texts: Sequence[str]) -> list[bool]:
        """Return for every text whether it is longer than what is embedded of it."""
        return self._window.cut(texts)

    def _encode_batch(self, batch: "Mapping[str, Tensor]") -> "Tensor":
        import torch

        with torch.inference_mode():
            return self._pooled(batch)

    def _pooled(self, batch: "Mapping[str, Tensor]") -> "Tensor":
        import torch

        states = self._model(**batch).last_hidden_state
        mask = batch["attention_mask"].unsqueeze(-1).to(states.dtype)
        pooled: Tensor = (states * mask).sum(dim=1) / mask.sum(dim=1)
        return torch.nn.functional.normalize(pooled, dim=-1) if self._normalizes else pooled


def _normalizes(folder: Path) -> bool:
    """Return whether embeddings have unit length; refuse a layout other than transformer, mean and perhaps that."""
    path = folder / "modules.json"
    try:
        with records.opened(path, REMEDY) as file:
            modules = json.load(file)
        kinds = [str(module["type"]).rsplit(".", 1)[-1] for module in modules]
        folders = [Path(module["path"]) for module in modules]
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        found = f"{type(error).__name__}: {shortened(str(error))}"
        raise UserError(f"{path}: expected the module list of sentence-transformers ({found}); {REMEDY}") from None
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise UserError(f"{path}: expected Transformer, Pooling and perhaps Normalize, got {shown(kinds)}; {REMEDY}")
    if any(inside.is_absolute() or ".." in inside.parts for inside in folders):
        raise UserError(f"{path}: path: expected folders beside it, got {shown(folders)}; {REMEDY}")
    pooling = records.read_json(folder / folders[1] / "config.json")
    modes = sorted(key for key, value in pooling.items() if key.startswith("pooling_mode_") and value)
    if modes != ["pooling_mode_mean_tokens"]:
        raise UserError(f"{folder}: expected mean pooling, got {modes}; {REMEDY}")
    return kinds[-1] == "Normalize"


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


@dataclass(frozen=True)
class EmbeddingHead:
    """Score a text with the head's probability that its embedding is toxic."""

    name: str
    fingerprint: str
    encoder: Encoder
    head: Head

    def score(self, texts: Sequence[str]) -> list[float | None]:
        """Return the toxicity in [0, 1] of every text, None where the encoder gives no number."""
        return score_each(self._probabilities, texts)

    def cut(self, texts: Sequence[str]) -> list[bool]:
        """Return for every text whether it is longer than what the encoder reads of it."""
        return self.encoder.cut(texts)

    def _probabilities(self, texts: Sequence[str]) -> NDArray[np.float64]:
        return self.head.probabilities(self.encoder.encode(texts, progress=f"scoring ({self.name})"))


def head_file(experiment: str) -> Path:
    """Return the path of the fitted head."""
    return paths.judge(experiment) / "head.safetensors"


def load(name: str, config: EmbeddingHeadScorer, folder: Path, experiment: str) -> EmbeddingHead:
    """Load the encoder in `folder` and the fitted head; raise UserError when either is missing or does not fit."""
    encoder = Encoder(folder, config.max_tokens)
    head = load_head(head_file(experiment), encoder.dimension)
    files = {
        "encoder": files_digest(folder, (path for path in folder.rglob("*") if path.is_file())),
        "head": file_digest(staged(head_file(experiment))),
    }
    settings = {"kind": config.kind, "max_tokens": config.max_tokens}
    return EmbeddingHead(name, fingerprint(settings, files), encoder, head)


SCORER = ScorerKind(
    "embedding_head",
    EmbeddingHeadScorer,
    load,
    bytes=lambda section: 91 * 10**6,  # all-MiniLM-L6-v2 in float32
    is_fitted=True,
)
