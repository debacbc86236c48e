"""Embeddings: what they depend on, and which checkpoints are refused."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.io.errors import UserError
from pipeline.scorers.embedding_head import Encoder
from pipeline.scorers.pretrained import BATCH_SIZE
from tests.scorers.tiny import DIMENSION, MODULES, sentences

TEXTS = ["", ".", "the man", *sentences(2 * BATCH_SIZE, seed=1), *sentences(BATCH_SIZE, seed=2, toxic=True)]


@pytest.fixture(scope="module")
def encoder(tiny_encoder):
    return Encoder(tiny_encoder, max_tokens=32)


@pytest.fixture
def copy(tiny_encoder, tmp_path):
    return shutil.copytree(tiny_encoder, tmp_path / "copy")


def test_an_embedding_does_not_depend_on_its_batch_or_place(encoder):
    together = encoder.encode(TEXTS)
    alone = np.concatenate([encoder.encode([text]) for text in TEXTS])
    assert together.shape == (len(TEXTS), DIMENSION) and together.dtype == np.float32
    assert np.abs(together - alone).max() < 1e-6
    assert np.abs(encoder.encode(TEXTS[::-1])[::-1] - together).max() < 1e-6
    assert np.abs(together[3] - together[4]).max() > 1e-2  # else the above says nothing


def test_the_mean_is_over_the_tokens_of_the_text(encoder, tiny_encoder):
    from transformers import AutoModel, AutoTokenizer

    tokens = AutoTokenizer.from_pretrained(tiny_encoder)("the silly man", return_tensors="pt")
    with torch.inference_mode():
        states = AutoModel.from_pretrained(tiny_encoder).eval()(**tokens).last_hidden_state[0]
    direction = states.mean(dim=0) / states.mean(dim=0).norm()
    np.testing.assert_allclose(encoder.encode(["the silly man"])[0], direction, atol=1e-6)


def test_embeddings_have_unit_length_only_where_the_checkpoint_says_so(encoder, copy):
    (copy / "modules.json").write_text(json.dumps(MODULES[:2]))
    bare = Encoder(copy, max_tokens=32).encode(TEXTS[:5])
    lengths = np.linalg.norm(bare, axis=1, keepdims=True)
    assert (np.abs(lengths - 1) > 1e-2).all()
    np.testing.assert_allclose(encoder.encode(TEXTS[:5]), bare / lengths, atol=1e-6)


def test_a_text_is_cut_at_max_tokens(tiny_encoder):
    short = Encoder(tiny_encoder, max_tokens=6)  # four words and the two special tokens
    ends = short.encode(["the man reads a", "the man reads a book", "the man reads the book"])
    assert np.abs(ends[0] - ends[1]).max() < 1e-6
    assert np.abs(ends[0] - ends[2]).max() > 1e-2


@pytest.mark.parametrize("max_tokens", [2, 33])
def test_more_tokens_than_the_encoder_has_positions_are_refused(tiny_encoder, max_tokens):
    with pytest.raises(UserError, match="max_tokens: expected 3 to 32"):
        Encoder(tiny_encoder, max_tokens)


def test_no_text_is_no_embedding(encoder):
    assert encoder.encode([]).shape == (0, DIMENSION)


def test_an_absent_checkpoint_is_named(tmp_path):
    with pytest.raises(UserError, match="nowhere/modules.json"):
        Encoder(tmp_path / "nowhere", max_tokens=8)


def test_a_checkpoint_without_weights_is_named(copy):
    (copy / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"model\.safetensors: not found; weights are read from safetensors alone"):
        Encoder(copy, max_tokens=8)


def test_a_checkpoint_that_lacks_a_weight_is_refused_and_not_filled_at_random(copy):
    weights = load_file(copy / "model.safetensors")
    del weights["encoder.layer.0.output.dense.weight"]
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"lacks encoder\.layer\.0\.output\.dense\.weight;"):
        Encoder(copy, max_tokens=8)


def test_another_pooling_than_the_mean_is_refused(copy):
    (copy / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    with pytest.raises(UserError, match="expected mean pooling, got .*cls_token"):
        Encoder(copy, max_tokens=8)


def test_another_layout_is_refused(copy):
    dense = {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"}
    (copy / "modules.json").write_text(json.dumps([*MODULES[:2], dense]))
    with pytest.raises(UserError, match="modules.json: expected Transformer, Pooling.*Dense"):
        Encoder(copy, max_tokens=8)
