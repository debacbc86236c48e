"""Make a checkpoint folder of a T5 (Raffel et al. 2020) with random weights, and a tokenizer of its own.

For experiments whose model no package index has: `reference` then trains all of it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.config.sections import T5Build
from pipeline.io.atomic import replacing_folder
from pipeline.io.errors import UserError
from pipeline.io.hashing import file_digest
from pipeline.io.records import write_json

SPECIAL = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}  # their ids are 0, 1 and 2, as in T5
_PAD, _EOS = 0, 1


def build_t5(build: T5Build, texts: Sequence[str], target: Path) -> dict[str, Any]:
    """Write config, weights and tokenizer to the folder `target` as T5's are laid out; return what they were made of.

    The tokenizer is trained on `texts`, whose order changes nothing; the weights follow from `build.seed`. The same
    input gives the same bytes. Raises UserError when the texts do not give exactly `build.vocab_size` pieces.
    """
    with replacing_folder(target) as folder:
        _write_tokenizer(build, texts, folder)
        _write_model(build, folder)
        digests = {path.name: file_digest(path) for path in sorted(folder.iterdir())}
    return {"build": build.model_dump(), "sha256": digests}


def _write_tokenizer(build: T5Build, texts: Sequence[str], folder: Path) -> None:
    """Byte-pair encoding (Sennrich et al. 2016) of words and punctuation; T5's own unigram training is not repeatable:
    its probabilities are sums in the random order of a hash map."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(unk_token=SPECIAL["unk_token"]))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation()])
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=build.vocab_size, special_tokens=list(SPECIAL.values()), show_progress=False
    )
    tokenizer.train_from_iterator(sorted(texts), trainer)
    if tokenizer.get_vocab_size() != build.vocab_size:
        raise UserError(
            f"model.build.vocab_size: expected the number of pieces that the train prompts give, "
            f"{tokenizer.get_vocab_size()}, got {build.vocab_size}; correct it, or add texts to data.texts"
        )
    end = SPECIAL["eos_token"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {end}", pair=f"$A {end} $B {end}", special_tokens=[(end, _EOS)]
    )
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL).save_pretrained(folder)
    write_json(folder / "special_tokens_map.json", SPECIAL)


def _write_model(build: T5Build, folder: Path) -> None:
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    values: dict[str, Any] = build.model_dump(exclude={"seed"})
    values |= {"pad_token_id": _PAD, "eos_token_id": _EOS, "decoder_start_token_id": _PAD}
    config = T5Config(**values)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(build.seed)
        model = T5ForConditionalGeneration(config)
    model.save_pretrained(folder)
