"""How likely a causal model that is no policy finds every completion alone, as rows beside those of the judges."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.nn.functional import cross_entropy
from tqdm import tqdm
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.utils.logging import disable_progress_bar

from pipeline.config.sections import CausalFluency, Fluency
from pipeline.evaluation.rows import FLUENCY, Completion
from pipeline.io import paths, records
from pipeline.io.errors import NotFiniteError, UserError, shown
from pipeline.io.hashing import files_digest, mapping_digest
from pipeline.io.process import keep_freed_memory
from pipeline.policy.loading import device
from pipeline.sources import checkpoint

BATCH_TOKENS = 1024  # of a forward pass, padding included: 200 MB of float32 logits at 50,000 tokens of vocabulary
_REMEDY = "delete the folder and run `dvc repro` to fetch it again, or choose another fluency.source"
_IGNORED = -100  # the target that cross_entropy leaves out


class Likelihood(NamedTuple):
    """The summed log-probability of a text's tokens but its first, in nats, and how many these are; None where none.

    `cut` tells whether the text went on beyond fluency.max_tokens.
    """

    logprob: float | None
    tokens: int
    cut: bool


class FluencyModel:
    """A causal model from a checkpoint folder, as `fluency` says, with the weights frozen."""

    def __init__(self, folder: Path, section: CausalFluency) -> None:
        """Load it, never from a network; raise UserError when the checkpoint is not whole, or no causal model."""
        self._max_tokens = section.max_tokens
        self._config = _read_config(folder)
        self._tokenizer = _load_tokenizer(folder, self._config.vocab_size)
        self._model = _load_model(folder, self._config, section.dtype)
        self._folder = folder
        self._check_room(folder)
        settings = {"dtype": section.dtype, "max_tokens": section.max_tokens}
        files = [path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json"]
        self.fingerprint = mapping_digest({"files": files_digest(folder, files), **settings})

    def likelihoods(self, texts: Sequence[str]) -> list[Likelihood]:
        """Return the likelihood of every text, in order.

        The first token is read and not scored: what stands before a text differs from model to model (the BOS of a
        chat model begins a turn, and the name of a speaker follows it), and would weigh most in the shortest texts. No
        EOS is scored. Texts of like length share a forward pass. Raises NotFiniteError when a log-probability is no
        number.
        """
        given = [self._tokens(text) for text in texts]
        found = [Likelihood(None, 0, cut) for _, cut in given]
        order = [index for index in range(len(given)) if len(given[index][0]) > 1]
        order.sort(key=lambda index: len(given[index][0]))
        with tqdm(total=len(order), desc="fluency", unit="text", disable=None) as progress:
            for batch in _batches([(index, len(given[index][0])) for index in order]):
                sums = self._logprobs([given[index][0] for index in batch])
                if not bool(torch.isfinite(sums).all()):
                    raise NotFiniteError(f"{self._folder}: log-probabilities are not finite; {_REMEDY}")
                for index, value in zip(batch, sums.tolist(), strict=True):
                    # rounding must not make a certain text more than certain
                    found[index] = Likelihood(min(value, 0.0), len(given[index][0]) - 1, given[index][1])
                progress.update(len(batch))
        return found

    @torch.inference_mode()
    def _logprobs(self, sequences: Sequence[Sequence[int]]) -> torch.Tensor:
        """Return the summed log-probability [B] of all tokens but each sequence's first."""
        longest = max(map(len, sequences))
        ids = torch.zeros((len(sequences), longest), dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, sequence in enumerate(sequences):
            ids[row, : len(sequence)] = torch.tensor(sequence)
            mask[row, : len(sequence)] = 1
        targets = torch.where(mask[:, 1:].bool(), ids[:, 1:], _IGNORED).to(self._model.device)
        logits = self._model(
            input_ids=ids.to(self._model.device), attention_mask=mask.to(self._model.device), use_cache=False
        ).logits[:, :-1]
        losses = cross_entropy(logits.float().transpose(1, 2), targets, ignore_index=_IGNORED, reduction="none")
        return -losses.double().sum(dim=1).cpu()

    def _tokens(self, text: str) -> tuple[list[int], bool]:
        """Return a text's tokens, and whether they were cut."""
        ids = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids[: self._max_tokens], len(ids) > self._max_tokens

    def _check_room(self, folder: Path) -> None:
        positions = getattr(self._config, "max_position_embeddings", None)
        if isinstance(positions, int) and self._max_tokens > positions:
            raise UserError(
                f"fluency.max_tokens: expected at most {positions}, the room of the model in {folder}, "
                f"got {self._max_tokens}; lower it"
            )


def _batches(lengths: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Cut (index, length) pairs, the shortest first, into batches of at most BATCH_TOKENS, padding included."""
    batches: list[list[int]] = []
    for index, length in lengths:
        if not batches or (len(batches[-1]) + 1) * length > BATCH_TOKENS:
            batches.append([])
        batches[-1].append(index)
    return batches


def _read_config(folder: Path) -> Any:
    config = checkpoint.read_config(folder, _REMEDY)
    path = folder / "config.json"
    if config.model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        found = shown(config.model_type)
        raise UserError(f"{path}: model_type: expected a causal language model, got {found}; {_REMEDY}")
    text = config.get_text_config()
    if type(text.vocab_size) is not int or text.vocab_size < 1:
        found = shown(text.vocab_size)
        raise UserError(f"{path}: vocab_size: expected a whole number of at least 1, got {found}; {_REMEDY}")
    return text


def _load_tokenizer(folder: Path, vocabulary: int) -> Any:
    about = folder / "tokenizer_config.json"
    if about.exists():
        checkpoint.check_no_code(about, records.read_json(about), _REMEDY)
    with checkpoint.reading(folder, "the tokenizer", _REMEDY):
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    highest = max(tokenizer.get_vocab().values(), default=0)
    if highest >= vocabulary:
        raise UserError(
            f"{folder}: the tokenizer makes token ids up to {highest}, but the model has embeddings for {vocabulary} "
            f"tokens; {_REMEDY}"
        )
    return tokenizer


def _load_model(folder: Path, config: Any, dtype: str) -> Any:
    checkpoint.check_weight_files(folder, _REMEDY)
    keep_freed_memory()
    disable_progress_bar()
    loader: Any = AutoModelForCausalLM
    with checkpoint.reading(folder / "config.json", f"a model of type {config.model_type}", _REMEDY):
        model, loaded = loader.from_pretrained(
            folder,
            dtype=getattr(torch, dtype),
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # told in `loaded`, and refused below
        )
    checkpoint.check_loaded(folder, model, loaded, _REMEDY)
    return model.to(device()).eval().requires_grad_(False)


def fluency_rows(completions: Sequence[Completion], fluency: Fluency, experiment: str) -> Iterator[dict[str, Any]]:
    """Yield one row a completion, sorted by prompt_id and sample; none where the base model measures perplexity.

    The model reads the completion alone, never the prompt. Raises UserError when its checkpoint is not whole.
    """
    if fluency.kind == "base":
        return

    model = FluencyModel(paths.fluency(experiment), fluency)
    ordered = sorted(completions, key=lambda row: row.key)
    likelihoods = model.likelihoods([row.completion for row in ordered])
    if cut := sum(found.cut for found in likelihoods):
        logging.getLogger(__name__).info(
            "fluency: %d of %d completions cut at %d tokens", cut, len(ordered), fluency.max_tokens
        )
    for row, found in zip(ordered, likelihoods, strict=True):
        where = {"prompt_id": row.prompt_id, "sample": row.sample}
        yield {**where, "model": FLUENCY, "model_sha256": model.fingerprint, **found._asdict()}
