"""The fitted judge: a frozen sentence encoder and the logistic head that the judge stage fits."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline import paths
from pipeline.atomic import staged
from pipeline.config.sections import EmbeddingHeadScorer
from pipeline.fingerprint import file_digest, files_digest
from pipeline.scorers.encoder import Encoder
from pipeline.scorers.fingerprint import fingerprint
from pipeline.scorers.head import Head, load_head
from pipeline.scorers.missing import score_each


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
