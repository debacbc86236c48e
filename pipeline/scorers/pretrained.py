"""Models of Hugging Face that read text, loaded from local files alone, with checks before and after."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from pipeline.config.fields import Source
from pipeline.io import records
from pipeline.io.errors import UserError, shown
from pipeline.io.hashing import file_digest
from pipeline.sources import checkpoint

REMEDY = "correct the scorer's source, or delete the folder and run `dvc repro` to fetch it again"
# What a tokenizer is made of: without any of these, Transformers makes one that knows no word, and says nothing.
_VOCABULARIES = (
    ("tokenizer.json",),
    ("vocab.json", "merges.txt"),
    ("vocab.txt",),
    ("sentencepiece.bpe.model",),
    ("spiece.model",),
)


def read_config(folder: Path) -> dict[str, Any]:
    """Return the checkpoint's config.json; raise UserError where it wants to run code of its own."""
    path = folder / "config.json"
    config = records.read_json(path)
    checkpoint.check_no_code(path, config, REMEDY)
    return config


def check_tokenizer_files(folder: Path) -> None:
    """Raise UserError where no vocabulary is in the folder, or its settings want to run code of their own."""
    if not any(all((folder / name).is_file() for name in names) for names in _VOCABULARIES):
        others = ", ".join(" with ".join(names) for names in _VOCABULARIES[1:])
        raise UserError(f"{folder / 'tokenizer.json'}: not found, nor any of {others}; {REMEDY}")
    about = folder / "tokenizer_config.json"
    if about.exists():
        checkpoint.check_no_code(about, records.read_json(about), REMEDY)


def load_tokenizer(folder: Path) -> Any:
    """Load the tokenizer of a checkpoint; raise UserError when there is none or it is broken."""
    from transformers import AutoTokenizer

    check_tokenizer_files(folder)
    with checkpoint.reading(folder, "the tokenizer", REMEDY):
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def load_model(folder: Path, loader: Any, what: str, pickled: bool = False, unused: Sequence[str] = ()) -> Any:
    """Load a model in float32 with one of Transformers' Auto classes.

    Weights come from safetensors or, if `pickled`, from a pytorch_model.bin whose bytes the caller has compared with a
    pin; it is read as tensors alone, so that it runs nothing. Raises UserError, calling the model `what`, when a weight
    would start from a random number, unless its name begins with one of `unused`.
    """
    import torch

    quiet()
    if not pickled:
        checkpoint.check_weight_files(folder, REMEDY)
    with checkpoint.reading(folder / "config.json", what, REMEDY):
        model, report = loader.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=not pickled,
            weights_only=True,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # told in the report, and refused below
        )
    _check_report(folder, report, tuple(unused))
    used = {name: weight for name, weight in model.state_dict().items() if not name.startswith(tuple(unused))}
    checkpoint.check_finite(folder, used, REMEDY)
    return model.eval()


def quiet() -> None:
    """Let Transformers draw no bar and fill no table with weights that are not used."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    logging.getLogger("transformers").setLevel(logging.ERROR)


def check_tokens(folder: Path, tokenizer: Any, vocabulary: int) -> None:
    """Refuse a tokenizer that cannot pad, and one with tokens for which the model, of `vocabulary` tokens, has none."""
    if tokenizer.pad_token_id is None:
        raise UserError(f"{folder}: the tokenizer has no padding token; {REMEDY}")
    highest = max(tokenizer.get_vocab().values(), default=0)
    if highest >= vocabulary:
        raise UserError(
            f"{folder}: the tokenizer makes token ids up to {highest}, but the model has embeddings for "
            f"{vocabulary} tokens; {REMEDY}"
        )


def check_window(folder: Path, model: Any, max_tokens: int) -> None:
    """Raise UserError unless the model has positions for `max_tokens`, of which two at least are special tokens."""
    limit = positions(model)
    if max_tokens < 3 or limit is not None and max_tokens > limit:
        expected = "at least 3" if limit is None else f"3 to {limit}, the encoder's positions"
        raise UserError(f"{folder}: max_tokens: expected {expected}, got {max_tokens}; correct it")


def positions(model: Any) -> int | None:
    """Return how many tokens the model has positions for; None where it counts distances and takes any number.

    RoBERTa and its kin count from the padding token's id + 1, so that 514 rows of their table hold 512 positions.
    """
    size = getattr(model.config, "max_position_embeddings", None)
    if not isinstance(size, int) or size < 1:
        return None
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            return size - int(module.padding_idx) - 1
    return size


def _check_report(folder: Path, report: Mapping[str, Any], unused: tuple[str, ...]) -> None:
    others = [key if isinstance(key, str) else key[0] for key in report["mismatched_keys"]]
    if others:
        problem = f"holds {checkpoint.named(others)} of another shape than config.json says"
        raise UserError(f"{folder}: the checkpoint {problem}; {REMEDY}")
    missing = [key for key in report["missing_keys"] if not key.startswith(unused)]
    if missing:
        raise UserError(f"{folder}: the checkpoint lacks {checkpoint.named(missing)}; {REMEDY}")


def check_sizes(folder: Path, config: Mapping[str, Any], keys: Sequence[str]) -> None:
    """Raise UserError unless the configuration has a whole number of at least 1 under each of these keys."""
    for key in keys:
        value = config.get(key)
        if type(value) is not int or value < 1:
            place = folder / "config.json"
            raise UserError(f"{place}: {key}: expected a whole number of at least 1, got {shown(value)}; {REMEDY}")


BATCH_SIZE = 64  # texts, and
BATCH_TOKENS = 64 * 128  # padded tokens at most; both change no number by more than float32 rounding


@dataclass(frozen=True)
class Window:
    """The first `max_tokens` tokens of a text, with the special tokens around it; the rest is not read."""

    tokenizer: Any
    max_tokens: int

    def cut(self, texts: Sequence[str]) -> list[bool]:
        """Return for every text whether it is longer than the window."""
        return [len(self._ids(text, self.max_tokens + 1)["input_ids"]) > self.max_tokens for text in texts]

    def batches(self, texts: Sequence[str], progress: str) -> Iterator[tuple[list[int], Any]]:
        """Yield places in `texts` with the padded tokens of the texts there, the shortest first.

        Texts of like length share a batch, so that padding costs little. `progress` names the bar on a terminal.
        """
        tokens = [self._ids(text, self.max_tokens) for text in texts]
        order = sorted(range(len(texts)), key=lambda index: len(tokens[index]["input_ids"]))
        with tqdm(total=len(texts), desc=progress, unit="text", disable=None, leave=False) as bar:
            for places in _batched(order, [len(tokens[index]["input_ids"]) for index in order]):
                yield places, self.tokenizer.pad([tokens[index] for index in places], return_tensors="pt")
                bar.update(len(places))

    def places(self, texts: Sequence[str]) -> Iterator[list[int]]:
        """Yield the places of `batches` alone, for a library that makes tokens itself."""
        lengths = [len(self._ids(text, self.max_tokens)["input_ids"]) for text in texts]
        order = sorted(range(len(texts)), key=lengths.__getitem__)
        yield from _batched(order, [lengths[index] for index in order])

    def _ids(self, text: str, longest: int) -> Any:
        return self.tokenizer(text, truncation=True, max_length=longest)


def _batched(order: Sequence[int], lengths: Sequence[int]) -> Iterator[list[int]]:
    """Yield parts of `order`, whose `lengths` rise, each as large as a batch may be and of one text at least."""
    batch: list[int] = []
    for index, length in zip(order, lengths, strict=True):
        if batch and (len(batch) == BATCH_SIZE or (len(batch) + 1) * length > BATCH_TOKENS):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def check_pinned(path: Path, folder: Path, source: Source) -> None:
    """Raise UserError unless the SHA-256 of `path` is what `source`, fetched into `folder`, pins for that file.

    A wheel's pin is of the whole wheel and says nothing of a file on disk, so that it pins no pickle.
    """
    if isinstance(source.sha256, dict):
        expected = source.sha256.get(path.relative_to(folder).as_posix())
    else:
        expected = None if source.uri.startswith("pypi:") else source.sha256
    if not expected:
        raise UserError(
            f"{path}: not pinned: a pickle is read only where its own sha256 stands in the scorer's source; pin it "
            "there after reviewing it, or choose safetensors"
        )
    found = file_digest(path)
    if found != expected:
        raise UserError(f"{path}: expected sha256 {expected} (pinned), got {found}; {REMEDY}")


def read_pickle(path: Path) -> Any:
    """Return the tensors and plain values of a file of torch.save; raise UserError where it holds anything else."""
    import torch

    with checkpoint.reading(path, "a pickle of tensors and plain values", REMEDY):
        return torch.load(path, map_location="cpu", weights_only=True)
