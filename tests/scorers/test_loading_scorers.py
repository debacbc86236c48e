"""Where scorers come from: the judges of an experiment, and the reward scorer, which no judge can touch."""

import hashlib
import shutil

import pytest

from pipeline.config.sections import RewardSection
from pipeline.io import paths
from pipeline.scorers.keyword import KeywordScorer
from pipeline.scorers.loading import load_judges, load_reward_scorer, sources_of
from pipeline.scorers.word_list import WordListScorer
from stages.download import fetch_all

SECTION = {"output": "toxicity", "reads": "completion", "offset": 1.0, "scale": 2.0}


def listed(path, saturation=1):
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return WordListScorer(
        kind="word_list", source={"uri": f"file:{path.name}", "sha256": digest}, saturation=saturation
    )


@pytest.fixture
def downloaded(tmp_path, monkeypatch):
    """Fetch two lists as the download stage does, and return the sections reward and scorers."""
    monkeypatch.chdir(tmp_path)
    for name in ("darn", "silly"):
        (tmp_path / f"{name}.txt").write_text(f"{name}\n")
    reward = RewardSection(name="paid", scorer=listed(tmp_path / "darn.txt"), **SECTION)
    scorers = {"held_out": listed(tmp_path / "silly.txt")}
    scorers["counted"] = KeywordScorer(kind="keyword", keywords=["odd"], saturation=1)
    fetch_all("scorers", sources_of(scorers), paths.scorers("exp"))
    fetch_all("reward", sources_of({"scorer": reward.scorer}), paths.reward("exp"))
    return reward, scorers


def test_judges_come_in_the_order_of_their_names_each_with_its_own_files(downloaded):
    for names in (["held_out", "paid", "counted"], ["counted", "held_out", "paid"], ["paid"]):
        judges = load_judges(names, *downloaded, "exp")
        assert [judge.name for judge in judges] == names
        found = {judge.name: judge.score(["darn", "silly", "odd"]) for judge in judges}
        expected = {"paid": [1, 0, 0], "held_out": [0, 1, 0], "counted": [0, 0, 1]}
        assert found == {name: expected[name] for name in names}


def test_the_reward_scorer_is_the_same_among_the_judges(downloaded):
    (judge,) = load_judges(["paid"], *downloaded, "exp")
    assert judge.fingerprint == load_reward_scorer(downloaded[0], "exp").fingerprint


def test_the_reward_scorer_needs_nothing_of_the_other_scorers(downloaded):
    shutil.rmtree(paths.scorers("exp"))
    assert load_reward_scorer(downloaded[0], "exp").score(["darn", "silly"]) == [1, 0]
