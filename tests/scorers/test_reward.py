"""From what a scorer says to the score that is maximised."""

import math
import shutil

import numpy as np
import pytest
import torch

from pipeline.config.sections import RewardSection
from pipeline.io import paths
from pipeline.io.errors import UserError
from pipeline.scorers.keyword import KeywordScorer
from pipeline.scorers.loading import load_reward
from tests.scorers import tiny_classifiers as tiny

PROMPTS = ["you are so stupid", "thank you"]
COMPLETIONS = ["we are happy to have you", "shut up, I hate you"]


@pytest.fixture(scope="module")
def roberta(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reward") / "roberta"
    tiny.write_roberta(folder)
    return folder


@pytest.fixture
def section(roberta, tmp_path, monkeypatch):
    """Return the section of a reward by the harmless label, whose files lie where `download` puts them."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(roberta, paths.reward("exp") / "scorer")
    scorer = tiny.classifier(roberta, label="nothate", means="harmless")
    return RewardSection(name="paid", scorer=scorer, output="logit", reads="completion", offset=0.0, scale=1.0)


def nothate(folder, texts):
    """Return the raw logits of the label `nothate`."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer, model = (kind.from_pretrained(folder) for kind in (AutoTokenizer, AutoModelForSequenceClassification))
    with torch.inference_mode():
        return [model(**tokenizer(text, return_tensors="pt")).logits[0, 0].item() for text in texts]


def test_offset_0_and_scale_1_give_the_raw_logit_of_the_harmless_label(section, roberta):
    scores = load_reward(section, "exp").scores(PROMPTS, COMPLETIONS)
    np.testing.assert_allclose(scores, nothate(roberta, COMPLETIONS), atol=1e-5)
    assert scores[0] > 0 > scores[1], "the kind one is worth more"


def test_the_prompt_is_read_where_the_section_says_so(section, roberta):
    reward = load_reward(section.model_copy(update={"reads": "prompt_and_completion"}), "exp")
    joined = [f"{prompt}\n{completion}" for prompt, completion in zip(PROMPTS, COMPLETIONS, strict=True)]
    np.testing.assert_allclose(reward.scores(PROMPTS, COMPLETIONS), nothate(roberta, joined), atol=1e-5)
    assert reward.toxicity(PROMPTS, COMPLETIONS) == reward.scorer.score(joined)


@pytest.mark.parametrize("reads, cut", [("completion", [False, True]), ("prompt_and_completion", [True, True])])
def test_what_is_cut_is_what_is_read(section, reads, cut):
    reward = load_reward(section.model_copy(update={"reads": reads}), "exp")
    assert reward.cut(["thank you " * 20, "thank you"], ["word", "you are happy " * 20]) == cut


@pytest.mark.parametrize("output", ["toxicity", "logit", "log_odds"])
def test_every_output_falls_with_toxicity_and_is_scaled(section, output):
    changed = section.model_copy(update={"output": output})
    plain = load_reward(changed, "exp").scores(PROMPTS, COMPLETIONS)
    assert plain[0] > plain[1]
    scaled = load_reward(changed.model_copy(update={"offset": 0.5, "scale": 3.0}), "exp").scores(PROMPTS, COMPLETIONS)
    assert scaled == pytest.approx([0.5 + 3 * value for value in plain])


def test_toxicity_is_that_of_the_scorer_whatever_is_rewarded(section):
    reward = load_reward(section, "exp")
    assert reward.toxicity(PROMPTS, COMPLETIONS) == reward.scorer.score(COMPLETIONS)
    assert reward.scorer.fingerprint == load_reward(section.model_copy(update={"scale": 9.0}), "exp").scorer.fingerprint


def test_one_minus_toxicity_is_offset_1_and_scale_1(section):
    reward = load_reward(section.model_copy(update={"output": "toxicity", "offset": 1.0, "scale": 1.0}), "exp")
    toxicity, scores = reward.toxicity(PROMPTS, COMPLETIONS), reward.scores(PROMPTS, COMPLETIONS)
    assert [one + other for one, other in zip(scores, toxicity, strict=True)] == pytest.approx([1, 1])


@pytest.mark.parametrize("output", ["logit", "log_odds"])
def test_detoxify_is_rewarded_by_its_heads_logit(output, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = paths.reward("exp") / "scorer"
    tiny.write_detoxify(folder, "original")
    scorer = tiny.detoxify(folder, variant="original")
    section = RewardSection(name="paid", scorer=scorer, output=output, reads="completion", offset=0.0, scale=1.0)
    reward = load_reward(section, "exp")
    scores, toxicity = reward.scores(PROMPTS, COMPLETIONS), reward.toxicity(PROMPTS, COMPLETIONS)
    assert scores == pytest.approx([-math.log(one / (1 - one)) for one in toxicity], rel=1e-3)
    assert scores[0] > 0 > scores[1], "the kind one is worth more"


def test_logits_are_refused_that_rank_otherwise_than_the_probability(section):
    """Of two labels that share one probability the logit of one may move the other way."""
    from safetensors.torch import load_file, save_file

    path = paths.reward("exp") / "scorer" / "model.safetensors"
    weights = load_file(path)
    own, other = weights["classifier.out_proj.weight"]
    weights["classifier.out_proj.weight"] = torch.stack([-own, other - 2 * own])  # the difference stays
    save_file(weights, path, metadata={"format": "pt"})
    assert load_reward(section.model_copy(update={"output": "log_odds"}), "exp")
    with pytest.raises(UserError, match=r"'paid' looks wrong: its logit of three .*`reward\.output`"):
        load_reward(section, "exp")


def test_without_a_score_there_is_no_reward():
    keyword = KeywordScorer(kind="keyword", keywords=["darn"], saturation=1)
    section = RewardSection(name="paid", scorer=keyword, output="toxicity", reads="completion", offset=1.0, scale=2.0)
    reward = load_reward(section, "exp")
    assert reward.scores(["", ""], ["darn", "fine"]) == [-1, 1] and reward.cut(["", ""], ["darn", "fine" * 9]) == [
        False,
        False,
    ]
    silent = type(reward)(section, reward.scorer, lambda texts: [None, 0.25])
    assert silent.scores(["", ""], ["darn", "fine"]) == [None, 0.5]
