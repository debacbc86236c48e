"""The cards of all judges: the same texts for each, harmless identity sentences, and what a judge cannot spoil."""

import numpy as np
import pytest

from pipeline.config.loader import load
from pipeline.config.sections import JudgeFit
from pipeline.io import paths
from pipeline.io.errors import UserError
from pipeline.scorers import cards
from pipeline.scorers.fitting import POSITIVES, Sample, draw_samples
from pipeline.scorers.loading import load_judges
from tests.scorers.tiny import fit_parameters, sentences
from tests.scorers.tiny_judges import PROMPTS, run_stage, write_csv, write_experiment, write_labels

FIT = fit_parameters()


@pytest.fixture
def experiment(tiny_encoder, tmp_path, monkeypatch):
    """Work in a folder with a downloaded encoder and labelled texts, where three judges are asked for."""
    monkeypatch.chdir(tmp_path)
    write_labels(tiny_encoder)
    write_experiment(FIT, judges=("tiny", "paid", "words"))


def windows(name, only_test=True):
    """Return the labelled windows of one source, drawn again."""
    samples = draw_samples(JudgeFit(**FIT), paths.raw("exp"), PROMPTS, lambda texts: np.zeros((len(texts), 1)))
    sample = samples[name]
    return [text for text, tested in zip(sample.windows, sample.in_test, strict=True) if tested or not only_test]


def share(word, texts):
    return sum(word in text for text in texts) / len(texts)


def test_every_judge_has_a_card_that_says_what_it_is(experiment):
    cards = run_stage()
    settings = load("exp", ("reward", "scorers"))
    judges = load_judges(list(cards), settings.reward, settings.scorers, "exp")
    assert {judge.name: judge.fingerprint for judge in judges} == {
        name: found["fingerprint"] for name, found in cards.items()
    }
    assert {
        name: tuple(found[key] for key in ("scorer", "kind", "status", "held_out")) for name, found in cards.items()
    } == {
        "tiny": ("tiny", "embedding_head", "fitted", True),
        "paid": ("paid", "keyword", "pinned", False),
        "words": ("words", "keyword", "pinned", True),
    }


def test_all_judges_are_measured_on_the_same_texts(experiment):
    cards = run_stage()
    counts = [
        [
            *(found["test"][key]["windows"] for key in ("sensitivity", "specificity")),
            *(found["left_out"][name]["windows"] for name in ("calm", "plain", "talk")),
            found["identity"]["windows"],
            sum(row["windows"] for row in found["test"]["calibration"]["bins"].values()),
            found["sources"],
            found["held_out_source"],
            found["threshold"],
        ]
        for found in cards.values()
    ]
    assert counts[0] == counts[1] == counts[2]


@pytest.mark.parametrize(("judge", "word"), [("words", "darn"), ("paid", "silly")])
def test_a_pinned_judge_is_right_about_the_windows_that_the_fit_did_not_see(experiment, judge, word):
    write_csv(paths.raw("exp") / "labels" / "plain.csv", sentences(75, seed=3) + sentences(75, seed=9, toxic=True))
    found = run_stage()[judge]["test"]
    harmless = windows("calm") + windows("plain")
    hits, alarms = share(word, windows(POSITIVES)), share(word, harmless)
    assert 0 < alarms < hits < 1
    assert found["sensitivity"]["value"] == pytest.approx(hits, abs=1e-6)
    assert found["specificity"]["value"] == pytest.approx(1 - alarms, abs=1e-6)
    assert found["auc"] == pytest.approx((hits + 1 - alarms) / 2, abs=1e-6)  # with one threshold only
    assert found["auc_interval"]["low"] < found["auc"] < found["auc_interval"]["high"]


def test_a_pinned_judge_that_flags_harmless_text_is_reported_and_fails_nothing(experiment):
    write_experiment(FIT, judges=("tiny", "the", "paid"))
    found = run_stage()["the"]
    expected = share("the", [text.casefold() for text in windows("talk", only_test=False)])
    assert found["false_positive_rate"]["value"] == pytest.approx(expected, abs=1e-6) and expected > 0.2
    assert found["false_positive_rate"] == found["left_out"]["talk"]


def test_harmless_sentences_about_groups_are_counted_by_term(experiment):
    cards = run_stage()
    assert cards["paid"]["identity"]["terms"] == {"tall": 0, "short": 0, "silly": 1}
    assert cards["paid"]["identity"]["value"] == pytest.approx(1 / 3, abs=1e-6)
    assert cards["paid"]["identity"]["windows"] == 6
    assert set(cards["tiny"]["identity"]["terms"]) == {"tall", "short", "silly"}
    assert cards["words"]["identity"]["value"] == 0 < cards["words"]["identity"]["high"]


def test_another_judge_changes_neither_the_head_nor_the_other_cards(experiment):
    head = paths.judge("exp") / "head.safetensors"
    before, weights = run_stage(), head.read_bytes()
    write_experiment(FIT, judges=("tiny", "words", "the", "paid"))
    after = run_stage()
    assert {name: after[name] for name in before} == before and set(after) - set(before) == {"the"}
    assert head.read_bytes() == weights


def test_another_reward_scorer_changes_no_card_but_its_own(experiment):
    before = run_stage()
    write_experiment(FIT, judges=("tiny", "paid", "words"), reward="foolish")
    after = run_stage()
    assert [name for name in before if before[name] != after[name]] == ["paid"]


def test_without_labelled_text_a_card_knows_identity_sentences_alone(experiment):
    write_experiment(None, judges=("words", "paid"))
    cards = run_stage()
    assert {tuple(sorted(found)) for found in cards.values()} == {
        ("fingerprint", "held_out", "identity", "kind", "scorer", "status", "threshold")
    }
    assert {found["threshold"] for found in cards.values()} == {0.5}
    assert cards["paid"]["identity"]["terms"]["silly"] == 1
    assert [path.name for path in paths.judge("exp").iterdir()] == ["card.json"]


class Gap:
    """A judge that cannot score one of the texts."""

    name, fingerprint = "gap", "0" * 64

    def score(self, texts):
        return [None if "sits" in text else 0.5 for text in texts]


def test_a_judge_that_cannot_score_a_text_of_its_card_is_named():
    samples = {
        name: Sample(["it sits", "it reads"], np.zeros((2, 1), np.float32), np.array([True, False]), 2, 0)
        for name in (POSITIVES, "calm", "plain", "talk")
    }
    with pytest.raises(UserError, match="score.judges: gap could not score 4 of the 8 texts"):
        cards.describe_pinned(samples, Gap(), JudgeFit(**FIT))
