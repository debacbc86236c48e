"""A frozen sentence encoder in the folder layout of sentence-transformers, run by transformers alone."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline import base_files, records
from pipeline.config.shown import shortened, shown
from pipeline.errors import UserError
from pipeline.scorers import checkpoint
from pipeline.scorers.checkpoint import REMEDY
from pipeline.scorers.window import Window


class Encoder:
    """Turn texts into embeddings: transformer, mean over real tokens, and unit length where the checkpoint says so."""

    def __init__(self, folder: Path, max_tokens: int) -> None:
        """Load a checkpoint from `folder`, never from a network; raise UserError when it is not such a checkpoint.

        `max_tokens` counts the special tokens around a text; a longer text is cut there.
        """
        from transformers import AutoModel

        self._normalizes = _normalizes(folder)
        config = checkpoint.read_config(folder)
        checkpoint.check_sizes(folder, config, ("hidden_size", "max_position_embeddings", "vocab_size"))
        tokenizer = checkpoint.load_tokenizer(folder)
        self._model = checkpoint.load_model(folder, AutoModel, "an encoder", unused=("pooler.",))
        checkpoint.check_tokens(folder, tokenizer, int(self._model.config.vocab_size))
        checkpoint.check_window(folder, self._model, max_tokens)
        self._window = Window(tokenizer, max_tokens)
        with base_files.reading(folder, "an encoder that embeds a word", REMEDY):  # a decoder cannot, for one
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

    @torch.inference_mode()
    def _encode_batch(self, batch: Mapping[str, Tensor]) -> Tensor:
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
