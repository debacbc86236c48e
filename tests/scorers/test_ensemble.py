"""Several scorers as one reward: whose opinion counts how much, and what is missing of one is missing of all."""

import math
import shutil
from pathlib import Path

import pytest

from pipeline.config.declarations import rooms
from pipeline.config.schema import experiment_file
from pipeline.config.sections import RewardSection
from pipeline.io import paths
from pipeline.scorers.ensemble import EnsembleScorer, Member, combine
from pipeline.scorers.keyword import KeywordScorer
from pipeline.scorers.loading import load_reward, load_scorer, sources_of
from pipeline.sources.pins import declared
from tests.scorers import tiny_classifiers as tiny

experiment_file(rooms())  # says which scorers there are, without which the section of an ensemble is not complete
TEXTS = ["a darn silly day", "a darn day", "a day"]


def keyword(*words, saturation=1):
    return KeywordScorer(kind="keyword", keywords=list(words), saturation=saturation)


def ensemble(**members):
    """Return the section of an ensemble of (weight, scorer) by name."""
    made = {name: {"weight": weight, "scorer": scorer} for name, (weight, scorer) in members.items()}
    return EnsembleScorer(kind="ensemble", members=made)


def loaded(**members):
    return load_scorer("both", ensemble(**members), Path("nowhere"), "exp")


class Given:
    """A scorer of given scores, all of whose texts are cut or none."""

    name, fingerprint = "given", "0" * 64

    def __init__(self, *scores, cut=False):
        self.scores, self.is_cut = list(scores), cut

    def score(self, texts):
        return self.scores

    def cut(self, texts):
        return [self.is_cut] * len(texts)


def combined(*members):
    return combine("both", {str(place): Member(weight, scorer) for place, (weight, scorer) in enumerate(members)})


def test_members_count_by_their_weight():
    scorer = loaded(first=(3.0, keyword("darn")), second=(1.0, keyword("silly")))
    assert scorer.score(TEXTS) == pytest.approx([1.0, 0.75, 0.0])
    assert scorer.score([]) == []


def test_only_the_proportion_of_weights_matters():
    light, heavy = (
        loaded(first=(2.0 * factor, keyword("darn")), second=(5.0 * factor, keyword("silly"))) for factor in (0.01, 100)
    )
    assert light.score(TEXTS) == pytest.approx(heavy.score(TEXTS))


def test_a_mean_of_ones_is_no_more_than_one():
    weights = [0.1 * number + 0.07 for number in range(40)]
    assert combined(*((weight, Given(1.0)) for weight in weights)).score(["a"]) == [1.0]


def test_what_one_member_cannot_score_is_missing():
    scorer = combined((1.0, Given(None, 0.5, 0.0)), (9.0, Given(1.0, 1.0, None)))
    assert scorer.score(["a", "b", "c"]) == [None, pytest.approx(0.95), None]


@pytest.mark.parametrize("first, second", [(True, False), (False, True), (False, False)])
def test_a_text_is_cut_where_one_member_cuts_it(first, second):
    scorer = combined((1.0, Given(cut=first)), (1.0, Given(cut=second)))
    assert scorer.cut(["a"]) == [first or second]


def test_the_fingerprint_is_of_members_names_and_weights():
    first, second = keyword("darn"), keyword("silly")
    sections = [
        {"one": (1.0, first), "two": (1.0, second)},
        {"one": (2.0, first), "two": (1.0, second)},
        {"one": (1.0, second), "two": (1.0, first)},
        {"one": (1.0, first), "other": (1.0, second)},
        {"one": (1.0, first), "two": (1.0, keyword("silly", saturation=2))},
    ]
    prints = [loaded(**section).fingerprint for section in sections]
    assert len(set(prints)) == len(prints)
    again = dict(reversed(sections[0].items()))
    assert loaded(**again).fingerprint == prints[0], "the order of the file is no difference"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("members")
    tiny.write_roberta(folder / "roberta")
    tiny.write_detoxify(folder / "detoxify", "original")
    return folder


@pytest.fixture
def classifiers(files):
    """Return the section of a Detoxify and a RoBERTa whose files lie in `files`."""
    rude = tiny.detoxify(files / "detoxify", variant="original")
    return ensemble(detoxify=(1.0, rude), roberta=(3.0, tiny.classifier(files / "roberta")))


def test_every_member_has_a_folder_of_its_own(classifiers):
    members = classifiers.members
    assert sources_of({"scorer": classifiers, "other": keyword("darn")}) == {
        "scorer/detoxify/checkpoint": members["detoxify"].scorer.checkpoint,
        "scorer/detoxify/tokenizer": members["detoxify"].scorer.tokenizer,
        "scorer/roberta": members["roberta"].scorer.source,
    }


def test_what_is_left_to_pin_of_a_member_is_named_by_its_key(classifiers):
    source = classifiers.members["roberta"].scorer.source
    assert dict(declared("scorer", classifiers))["scorer.members.roberta.scorer.source"] == source
    assert len(list(declared("scorer", classifiers))) == 3


def test_classifiers_are_loaded_from_where_download_puts_them(classifiers, files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(files, paths.reward("exp") / "scorer")
    section = RewardSection(
        name="both", scorer=classifiers, output="toxicity", reads="completion", offset=1.0, scale=1.0
    )
    reward = load_reward(section, "exp")
    texts = ["thank you, that was lovely", "shut up, I hate you"]
    parts = [
        load_scorer(name, entry.scorer, files / name, "exp").score(texts) for name, entry in classifiers.members.items()
    ]
    expected = [(detoxify + 3 * roberta) / 4 for detoxify, roberta in zip(*parts, strict=True)]
    assert reward.toxicity(["", ""], texts) == pytest.approx(expected)
    scores = reward.scores(["", ""], texts)
    assert scores == pytest.approx([1 - toxicity for toxicity in expected]) and scores[0] > 0.5 > scores[1]
    long = "thank you " * 60
    assert reward.cut(["", ""], ["thank you", long]) == [False, True] and math.isfinite(reward.scores([""], [long])[0])
