"""A frozen sentence encoder in the folder layout of sentence-transformers, run by transformers alone."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from pipeline import records
from pipeline.errors import UserError

BATCH_SIZE = 64  # changes no embedding by more than float32 rounding
_REMEDY = "correct the scorer's source, or delete the folder and run `dvc repro` to fetch it again"


class Encoder:
    """Turn texts into embeddings: transformer, mean over real tokens, and unit length where the checkpoint says so."""

    def __init__(self, folder: Path, max_tokens: int) -> None:
        """Load a checkpoint from `folder`, never from a network; raise UserError when it is not such a checkpoint.

        `max_tokens` counts the special tokens around a text; a longer text is cut there.
        """
        self._normalizes = _normalizes(folder)
        self._tokenizer, self._model = _load(folder)
        limit = int(self._model.config.max_position_embeddings)
        if not 3 <= max_tokens <= limit:
            raise UserError(f"{folder}: max_tokens: expected 3 to {limit}, the encoder's positions, got {max_tokens}")
        self._max_tokens = max_tokens

    @property
    def dimension(self) -> int:
        """Return D, the length of an embedding."""
        return int(self._model.config.hidden_size)

    def encode(self, texts: Sequence[str], progress: str = "encoding") -> NDArray[np.float32]:
        """Return embeddings [N, D] in the order of `texts`; `progress` names the progress bar on a terminal.

        Texts of like length share a batch, so that padding costs little; the mask keeps it out of every embedding.
        """
        embeddings = np.empty((len(texts), self.dimension), dtype=np.float32)
        tokens = [self._tokenizer(text, truncation=True, max_length=self._max_tokens) for text in texts]
        order = sorted(range(len(texts)), key=lambda index: len(tokens[index]["input_ids"]))
        for start in tqdm(range(0, len(texts), BATCH_SIZE), desc=progress, unit="batch", disable=None, leave=False):
            indices = order[start : start + BATCH_SIZE]
            batch = self._tokenizer.pad([tokens[index] for index in indices], return_tensors="pt")
            embeddings[indices] = self._encode_batch(batch).numpy()
        return embeddings

    @torch.inference_mode()
    def _encode_batch(self, batch: Mapping[str, Tensor]) -> Tensor:
        states = self._model(**batch).last_hidden_state
        mask = batch["attention_mask"].unsqueeze(-1).to(states.dtype)
        pooled: Tensor = (states * mask).sum(dim=1) / mask.sum(dim=1)
        return torch.nn.functional.normalize(pooled, dim=-1) if self._normalizes else pooled


def _load(folder: Path) -> tuple[Any, Any]:
    """Return tokenizer and model; refuse a checkpoint that leaves a weight we use at a random value."""
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    logging.getLogger("transformers").setLevel(logging.ERROR)  # the pooler that we do not use fills a table otherwise
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model, report = AutoModel.from_pretrained(
            folder, local_files_only=True, dtype=torch.float32, use_safetensors=True, output_loading_info=True
        )
    except (OSError, ValueError) as error:
        raise UserError(f"{folder}: expected an encoder checkpoint, got: {error}; {_REMEDY}") from None
    missing = sorted(key for key in report["missing_keys"] if not key.startswith("pooler."))
    if missing:
        raise UserError(f"{folder}: the checkpoint lacks {', '.join(missing[:3])} ({len(missing)} in all); {_REMEDY}")
    return tokenizer, model.eval()


def _normalizes(folder: Path) -> bool:
    """Return whether embeddings have unit length; refuse a layout other than transformer, mean and perhaps that."""
    path = folder / "modules.json"
    try:
        modules = json.loads(path.read_text(encoding="utf-8"))
        kinds = [str(module["type"]).rsplit(".", 1)[-1] for module in modules]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: expected the module list of sentence-transformers, got {error}; {_REMEDY}") from None
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise UserError(f"{path}: expected Transformer, Pooling and perhaps Normalize, got {kinds}; {_REMEDY}")
    pooling = records.read_json(folder / modules[1]["path"] / "config.json")
    modes = sorted(key for key, value in pooling.items() if key.startswith("pooling_mode_") and value)
    if modes != ["pooling_mode_mean_tokens"]:
        raise UserError(f"{folder}: expected mean pooling, got {modes}; {_REMEDY}")
    return kinds[-1] == "Normalize"
