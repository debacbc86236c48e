"""Perplexity under a causal model that is no policy: each text alone, whatever stands beside it in a batch."""

import math
from functools import cache

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from pipeline.apps.stage import Stage
from pipeline.config.loader import load
from pipeline.config.sections import CausalFluency
from pipeline.evaluation import fluency
from pipeline.io import paths
from pipeline.io.errors import UserError
from pipeline.io.records import read_json, read_jsonl, write_json, write_jsonl
from pipeline.tracking.recording import NullRun
from stages import score
from tests.evaluation.conftest import POLICIES, card, completions, scores, sha256
from tests.smoke.checkpoint import write_checkpoint

TEXTS = ["The goose sang.", "", "A tall captain waved at the geese for hours.", "x", "The goose sang."]
UNUSED = {"kind": "keyword", "keywords": ["unused"], "saturation": 1}
KEYWORDS = {  # sections of an experiment that is judged without any download
    "scorers": {"strict": UNUSED | {"keywords": ["7"]}, "minilm": UNUSED},
    "judge": {"scorer": "strict", "fit": None},
    "reward": {"name": "lenient", "scorer": UNUSED | {"keywords": ["7"], "saturation": 4}},
    "score": {"judges": ["strict", "lenient"]},
    "evaluate": {"baselines": {"best_of_k": {"scorer": "lenient"}}},
}
SOURCE = {"uri": "file:given", "sha256": {"config.json": "0" * 64}}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fluency")
    write_checkpoint(folder)
    return folder


def section(**changes):
    values = {"kind": "causal_lm", "source": SOURCE, "dtype": "float32", "max_tokens": 100} | changes
    return CausalFluency.model_validate(values)


@cache
def loaded(folder):
    return AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)


@torch.no_grad()
def token_by_token(folder, text):
    """Return the sum of each token's log-prob after the first, one forward pass a token."""
    tokenizer, model = loaded(folder)
    ids = tokenizer(text)["input_ids"]
    total = 0.0
    for at in range(1, len(ids)):
        logits = model(torch.tensor([ids[:at]])).logits[0, -1]
        total += float(torch.log_softmax(logits.double(), dim=0)[ids[at]])
    return total


def test_it_is_the_sum_over_tokens_whatever_the_batch(checkpoint, monkeypatch):
    model = fluency.FluencyModel(checkpoint, section())
    together = model.likelihoods(TEXTS)
    assert [found.tokens for found in together] == [max(len(text) - 1, 0) for text in TEXTS], "a byte is a token"
    for text, found in zip(TEXTS, together, strict=True):
        if found.tokens:
            assert found.logprob == pytest.approx(token_by_token(checkpoint, text), rel=1e-5)
    monkeypatch.setattr(fluency, "BATCH_TOKENS", 1)
    alone = model.likelihoods(TEXTS[::-1])[::-1]
    for one, other in zip(together, alone, strict=True):
        assert (one.logprob or 0) == pytest.approx(other.logprob or 0, rel=1e-5)
        assert one[1:] == other[1:]
    assert together[1] == fluency.Likelihood(None, 0, False), "an empty text has none, not 0"


def test_a_long_text_is_cut_and_told(checkpoint):
    model = fluency.FluencyModel(checkpoint, section(max_tokens=4))
    whole, cut = model.likelihoods(["goos", "goose"])
    assert (whole.cut, cut.cut, cut.tokens) == (False, True, 3)
    assert cut.logprob == pytest.approx(whole.logprob, rel=1e-6)


def test_the_first_token_is_not_scored_and_the_tokens_between_texts_are_no_matter(checkpoint, tmp_path):
    one, two = fluency.FluencyModel(checkpoint, section()).likelihoods(["g", "go"])
    assert one == fluency.Likelihood(None, 0, False)
    assert two.tokens == 1 and two.logprob < 0
    for path in checkpoint.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    about = read_json(tmp_path / "tokenizer_config.json")
    write_json(tmp_path / "tokenizer_config.json", {key: value for key, value in about.items() if key != "eos_token"})
    assert fluency.FluencyModel(tmp_path, section()).likelihoods(["g", "go"]) == [one, two]


def test_the_fingerprint_follows_weights_and_settings(checkpoint, tmp_path):
    first = fluency.FluencyModel(checkpoint, section()).fingerprint
    (checkpoint / "manifest.json").write_text("{}")
    assert fluency.FluencyModel(checkpoint, section()).fingerprint == first, "where it came from changes nothing"
    (checkpoint / "manifest.json").unlink()
    assert fluency.FluencyModel(checkpoint, section(max_tokens=7)).fingerprint != first
    assert fluency.FluencyModel(checkpoint, section(dtype="bfloat16")).fingerprint != first


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "model.safetensors").unlink(), "not found"),
        (lambda folder: (folder / "config.json").write_text('{"model_type": "t5"}'), "a causal language model"),
        (lambda folder: (folder / "tokenizer.json").write_text("{"), "the tokenizer cannot be read"),
    ],
)
def test_a_checkpoint_that_is_not_whole_is_named(checkpoint, tmp_path, damage, said):
    for path in checkpoint.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    damage(tmp_path)
    with pytest.raises(UserError, match=said) as caught:
        fluency.FluencyModel(tmp_path, section())
    assert str(tmp_path) in str(caught.value) and "fluency.source" in str(caught.value)


def test_more_tokens_than_the_model_has_room_for_are_refused(checkpoint):
    with pytest.raises(UserError, match=r"fluency\.max_tokens: expected at most 128"):
        fluency.FluencyModel(checkpoint, section(max_tokens=129))


@pytest.fixture
def scored(experiment, checkpoint):
    """Return the experiment with a fluency model, scored by the real stage."""
    experiment.parameters(**KEYWORDS, fluency=section().model_dump())
    place = paths.fluency("exp")
    place.mkdir(parents=True)
    for path in checkpoint.iterdir():
        (place / path.name).write_bytes(path.read_bytes())
    first = read_jsonl(completions())[0]
    experiment.alter(completions(), lambda row: row | ({"completion": ""} if row == first else {}))
    for policy in POLICIES:
        score.main(Stage("score", "exp", load("exp", score.NODE.sections), NullRun(), seed=0, policy=policy))
    hashes = {row["judge"]: row["judge_sha256"] for row in read_jsonl(scores()) if "judge" in row}
    cards = {judge: card(judge) | {"fingerprint": digest} for judge, digest in hashes.items()}
    write_json(paths.metrics("exp", "judge"), {"cards": cards})
    return experiment


def test_every_completion_has_its_row_after_the_judges_and_the_evaluation_reads_them(scored):
    rows = read_jsonl(scores())
    likely = [row for row in rows if "model" in row]
    assert rows[-len(likely) :] == likely and len(likely) == scored.prompts * scored.samples
    assert set(likely[0]) == {"prompt_id", "sample", "model", "model_sha256", "logprob", "tokens", "cut"}
    assert (likely[0]["logprob"], likely[0]["tokens"]) == (None, 0)
    evaluation = scored.evaluate()
    values = sorted(math.exp(-row["logprob"] / row["tokens"]) for row in likely[1:])
    assert evaluation["sft"]["guards"]["perplexity_median"] == pytest.approx(values[len(values) // 2], rel=1e-5)
    meta = evaluation["meta"]
    assert (meta["perplexity_model"], meta["perplexity_model_sha256"]) == ("fluency", likely[0]["model_sha256"])
    assert meta["perplexity_cut_rate"] == dict.fromkeys(POLICIES, 0)
    assert evaluation["sft"]["guard_checks"]["perplexity_median"]["change"]["low"] is not None


def test_where_nothing_could_be_measured_perplexity_is_missing(scored):
    for policy in POLICIES:
        scored.alter(scores(policy), lambda row: row | ({"logprob": None, "tokens": 0} if "model" in row else {}))
    evaluation = scored.evaluate()
    assert evaluation["sft"]["guards"]["perplexity_median"] is None
    assert not evaluation["sft"]["guard_checks"]["perplexity_median"]["passed"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda row: None if "model" in row and row["sample"] == 2 else row, r"lacks prompt .* \(fluency\) has"),
        (lambda row: row | ({"model_sha256": sha256("x")} if "model" in row else {}), "score both with the same"),
        (lambda row: row | ({"tokens": 0} if row.get("tokens") else {}), "logprob should be null where tokens is 0"),
        (lambda row: row | ({"model": "other"} if "model" in row else {}), "model: expected 'fluency'"),
        (lambda row: row | ({"logprob": 1.0} if row.get("tokens") else {}), "logprob: expected less than or equal"),
    ],
)
def test_rows_that_do_not_fit_are_refused(scored, change, said):
    scored.alter(scores("ppo"), change)
    with pytest.raises(UserError, match=f"scores/exp/0/ppo.jsonl.*{said}"):
        scored.evaluate()


def test_a_row_twice_and_rows_that_nobody_asked_for_are_refused(scored):
    rows = read_jsonl(scores())
    write_jsonl(scores(), [*rows, rows[-1]])
    with pytest.raises(UserError, match="stands here a second time"):
        scored.evaluate()
    write_jsonl(scores(), rows)
    scored.parameters(**KEYWORDS, fluency={"kind": "base"})
    with pytest.raises(UserError, match="expected no row of 'fluency'"):
        scored.evaluate()
