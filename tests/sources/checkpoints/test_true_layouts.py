"""Checkpoints with the files, keys and tensors of the true ones, in tiny sizes, through what reads them here."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.fields import Source
from pipeline.config.sections import ModelSection
from pipeline.io import paths
from pipeline.io.errors import UserError
from pipeline.io.hashing import file_digest
from pipeline.policy import loading
from pipeline.scorers.detoxify import DetoxifyScorer
from pipeline.scorers.loading import load_scorer
from pipeline.scorers.scoring import HOSTILE, KIND
from pipeline.scorers.sequence_classifier import SequenceClassifierScorer
from pipeline.sources.importing import import_checkpoint
from tests.sources.checkpoints import classifiers, detoxify, flan_t5

EXPERIMENT = "layouts"
LONG = "This gentle sentence goes on and on. " * 200
MODEL = ModelSection(
    source=Source(uri="hub:google/flan-t5-base@" + "0" * 40, sha256={}),
    build=None,
    architecture="seq2seq",
    dtype="float32",
    quantization=None,
    gradient_checkpointing=False,
    prompt_format="plain",
    max_prompt_tokens=512,
)


@pytest.fixture(scope="module")
def true(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with all of them; change nothing."""
    folder = tmp_path_factory.mktemp("true")
    flan_t5.write_flan_t5(folder / "flan")
    classifiers.write_hate_classifier(folder / "hate")
    classifiers.write_toxic_bert(folder / "bert")
    detoxify.write_unbiased(folder / "unbiased" / "checkpoint", folder / "unbiased" / "tokenizer")
    detoxify.write_multilingual(folder / "multilingual" / "checkpoint", folder / "multilingual" / "tokenizer")
    detoxify.write_original(folder / "original" / "checkpoint", folder / "original" / "tokenizer")
    return folder


@pytest.fixture
def flan(true: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of FLAN-T5's files, in a working folder of its own."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(true / "flan", tmp_path / "flan"))


def loaded(files: Path) -> Any:
    """Return the model after all that `download` and a stage do with it."""
    import_checkpoint(files, paths.base_model(EXPERIMENT))
    return loading.load_base(EXPERIMENT, MODEL)


def test_flan_t5_keeps_an_output_layer_of_its_own(flan: Path) -> None:
    from safetensors.torch import load_file

    model, file = loaded(flan), load_file(flan / "model.safetensors")
    assert model.lm_head.weight.equal(file["lm_head.weight"])
    for embeddings in (model.shared, model.encoder.embed_tokens, model.decoder.embed_tokens):
        assert embeddings.weight.equal(file["shared.weight"])
    assert not model.lm_head.weight.equal(model.shared.weight)


def test_flan_t5_does_not_scale_its_decoders_output(flan: Path) -> None:
    """As T5 1.1, which says so by `tie_word_embeddings` alone."""
    import torch

    model = loaded(flan)
    ids = torch.tensor([[5, 6, 7, 1]])
    with torch.no_grad():
        told = model(input_ids=ids, decoder_input_ids=ids, output_hidden_states=True)
        assert torch.allclose(told.logits, told.decoder_hidden_states[-1] @ model.lm_head.weight.T, atol=1e-5)


@pytest.mark.parametrize("name", ["encoder.embed_tokens.weight", "decoder.embed_tokens.weight"])
def test_flan_t5s_embeddings_may_stand_under_another_of_their_names(name: str, flan: Path) -> None:
    """Converters to safetensors keep one of tensors that share memory, and not all of them the same."""
    before = loaded(flan).state_dict()
    vocabulary = before["shared.weight"].shape[0]
    flan_t5.write_weights(flan, {**flan_t5.CONFIG, "vocab_size": vocabulary}, embeddings=name)
    after = loaded(flan).state_dict()
    assert before.keys() == after.keys()
    assert all(before[key].equal(after[key]) for key in before)


def test_flan_t5s_tokenizer_is_its_sentencepiece_model(flan: Path) -> None:
    import sentencepiece

    model = loaded(flan)
    tokenizer = loading.load_tokenizer(EXPERIMENT)
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(flan / "spiece.model"))
    for text in (*HOSTILE, *KIND, "#Person1#: Good  morning!\n#Person2#: Hello.", ""):
        assert tokenizer(text)["input_ids"] == [*pieces.encode(text), tokenizer.eos_token_id]
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id) == (0, 1, 2)
    assert len(tokenizer) == model.config.vocab_size - flan_t5.UNUSED == len(pieces) + flan_t5.EXTRA
    assert tokenizer.convert_ids_to_tokens(len(tokenizer) - 1) == "<extra_id_0>"


def classifier(label: str = "nothate", means: str = "harmless", max_tokens: int = 512) -> SequenceClassifierScorer:
    source = Source(uri="hub:owner/name@" + "0" * 40, sha256={})
    return SequenceClassifierScorer(
        kind="sequence_classifier", source=source, label=label, means=means, max_tokens=max_tokens
    )


@pytest.mark.parametrize(
    ("name", "label", "means"),
    [("hate", "nothate", "harmless"), ("hate", "hate", "toxic"), ("bert", "toxic", "toxic")],
)
def test_a_classifier_tells_hostile_from_kind(name: str, label: str, means: str, true: Path) -> None:
    scorer = load_scorer("it", classifier(label, means), true / name, EXPERIMENT)
    toxicity = scorer.score([*HOSTILE, *KIND])
    assert min(toxicity[:3]) > 0.8 and max(toxicity[3:]) < 0.2
    assert scorer.cut([*HOSTILE, LONG]) == [False, False, False, True]
    assert scorer.score([LONG])[0] is not None


def test_roberta_reads_512_tokens_of_its_514_positions(true: Path) -> None:
    with pytest.raises(UserError, match="max_tokens: expected 3 to 512"):
        load_scorer("it", classifier(max_tokens=514), true / "hate", EXPERIMENT)


def test_a_label_of_another_sign_is_refused(true: Path) -> None:
    with pytest.raises(UserError, match="looks wrong"):
        load_scorer("it", classifier("nothate", "toxic"), true / "hate", EXPERIMENT)
    with pytest.raises(UserError, match="nothate, hate"):
        load_scorer("it", classifier("toxic", "toxic"), true / "hate", EXPERIMENT)


@pytest.mark.parametrize("head", ["toxicity", "insult"])
@pytest.mark.parametrize("variant", list(detoxify.NAMES))
def test_detoxify_tells_hostile_from_kind(variant: Any, head: str, true: Path) -> None:
    folder = true / variant
    file = detoxify.NAMES[variant]
    weights = Source(uri=f"url:https://localhost/{file}", sha256={file: file_digest(folder / "checkpoint" / file)})
    nowhere = Source(uri="hub:owner/name@" + "0" * 40, sha256={})
    config = DetoxifyScorer(
        kind="detoxify", variant=variant, head=head, checkpoint=weights, tokenizer=nowhere, max_tokens=512
    )
    scorer = load_scorer("it", config, folder, EXPERIMENT)
    toxicity = scorer.score([*HOSTILE, *KIND])
    assert min(toxicity[:3]) > 0.8 and max(toxicity[3:]) < 0.2
    assert scorer.cut(["short", LONG]) == [False, True]
    assert scorer.score([LONG])[0] is not None


def test_they_are_the_same_bytes_every_time(true: Path, tmp_path: Path) -> None:
    """What a test pins once, it may make again."""
    flan_t5.write_flan_t5(tmp_path / "flan")
    classifiers.write_hate_classifier(tmp_path / "hate")
    for name in ("flan", "hate"):
        files = sorted(path.name for path in (true / name).iterdir())
        assert sorted(path.name for path in (tmp_path / name).iterdir()) == files
        assert [file for file in files if file_digest(tmp_path / name / file) != file_digest(true / name / file)] == []
