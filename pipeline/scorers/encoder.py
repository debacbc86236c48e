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

from pipeline import base_files, records
from pipeline.config.shown import shortened, shown
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
        _check_config(folder)
        self._tokenizer = _load_tokenizer(folder)
        self._model = _load_model(folder)
        _check_tokens(folder, self._tokenizer, self._model.config)
        limit = int(self._model.config.max_position_embeddings)
        if not 3 <= max_tokens <= limit:
            raise UserError(f"{folder}: max_tokens: expected 3 to {limit}, the encoder's positions, got {max_tokens}")
        self._max_tokens = max_tokens
        with base_files.reading(folder, "an encoder that embeds a word", _REMEDY):  # a decoder cannot, for one
            self.encode(["word"])

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


def _check_config(folder: Path) -> None:
    """Refuse a checkpoint that wants to run code of its own, or that says of itself what no encoder would."""
    path = folder / "config.json"
    config = records.read_json(path)
    base_files.check_no_code(path, config, _REMEDY)
    for key in ("hidden_size", "max_position_embeddings", "vocab_size"):
        value = config.get(key)
        if type(value) is not int or value < 1:
            raise UserError(f"{path}: {key}: expected a whole number of at least 1, got {shown(value)}; {_REMEDY}")


def _load_tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    file, about = folder / "tokenizer.json", folder / "tokenizer_config.json"
    if not file.is_file():
        raise UserError(f"{file}: not found; {_REMEDY}")
    if about.exists():
        base_files.check_no_code(about, records.read_json(about), _REMEDY)
    with base_files.reading(file, "the tokenizer", _REMEDY):
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def _load_model(folder: Path) -> Any:
    """Load the model from safetensors; refuse a checkpoint that leaves a weight we use at a random value."""
    from transformers import AutoModel
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    logging.getLogger("transformers").setLevel(logging.ERROR)  # the pooler that we do not use fills a table otherwise
    base_files.check_weight_files(folder, _REMEDY)
    with base_files.reading(folder / "config.json", "an encoder", _REMEDY):
        model, report = AutoModel.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # told in the report, and refused below
        )
    others = [key if isinstance(key, str) else key[0] for key in report["mismatched_keys"]]
    if others:
        problem = f"holds {base_files.named(others)} of another shape than config.json says"
        raise UserError(f"{folder}: the checkpoint {problem}; {_REMEDY}")
    missing = [key for key in report["missing_keys"] if not key.startswith("pooler.")]
    if missing:
        raise UserError(f"{folder}: the checkpoint lacks {base_files.named(missing)}; {_REMEDY}")
    used = {name: weight for name, weight in model.state_dict().items() if not name.startswith("pooler.")}
    base_files.check_finite(folder, used, _REMEDY)
    return model.eval()


def _check_tokens(folder: Path, tokenizer: Any, config: Any) -> None:
    """Refuse a tokenizer that cannot pad, and one whose tokens the model does not know."""
    if tokenizer.pad_token_id is None:
        raise UserError(f"{folder}: the tokenizer has no padding token; {_REMEDY}")
    highest = max(tokenizer.get_vocab().values(), default=0)
    if highest >= config.vocab_size:
        raise UserError(
            f"{folder}: the tokenizer makes token ids up to {highest}, but the model has embeddings for "
            f"{config.vocab_size} tokens; {_REMEDY}"
        )


def _normalizes(folder: Path) -> bool:
    """Return whether embeddings have unit length; refuse a layout other than transformer, mean and perhaps that."""
    path = folder / "modules.json"
    try:
        with records.opened(path, _REMEDY) as file:
            modules = json.load(file)
        kinds = [str(module["type"]).rsplit(".", 1)[-1] for module in modules]
        folders = [Path(module["path"]) for module in modules]
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        found = f"{type(error).__name__}: {shortened(str(error))}"
        raise UserError(f"{path}: expected the module list of sentence-transformers ({found}); {_REMEDY}") from None
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise UserError(f"{path}: expected Transformer, Pooling and perhaps Normalize, got {shown(kinds)}; {_REMEDY}")
    if any(inside.is_absolute() or ".." in inside.parts for inside in folders):
        raise UserError(f"{path}: path: expected folders beside it, got {shown(folders)}; {_REMEDY}")
    pooling = records.read_json(folder / folders[1] / "config.json")
    modes = sorted(key for key, value in pooling.items() if key.startswith("pooling_mode_") and value)
    if modes != ["pooling_mode_mean_tokens"]:
        raise UserError(f"{folder}: expected mean pooling, got {modes}; {_REMEDY}")
    return kinds[-1] == "Normalize"
