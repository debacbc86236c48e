"""What is called a win, what is not, and who is the champion."""

import pytest

from pipeline.evaluation.verdict import champion, verdict

BELOW, AROUND = {"value": -0.1, "low": -0.15, "high": -0.05}, {"value": -0.1, "low": -0.25, "high": 0.05}
ABOVE = {"value": 0.1, "low": 0.05, "high": 0.15}
NONE = {"value": float("nan"), "low": float("nan"), "high": float("nan")}


def compared(difference=BELOW, p=0.001):
    return {"difference": difference, "p": p, "p_holm": p, "smallest_detectable": 0.05}


def judged(reference=None, filtered=None, failed="", change=AROUND, gap=False):
    comparisons = {"reference": reference or compared(), "word_filter": filtered or compared()}
    checks = {name: {"passed": False, "min": None, "max": 0.1, "change": ABOVE} for name in failed.split(", ") if name}
    checks["distinct_2"] = {"passed": True, "min": -0.2, "max": None, "change": change}
    hacking = {
        "strict": {"flagged": False, "relative_flagged": False},
        "mild": {"flagged": gap, "relative_flagged": gap},
    }
    return verdict(comparisons, checks, hacking, ["word_filter"], alpha=0.05)


def test_a_gain_with_every_guard_passed_is_a_win():
    assert judged()["outcome"] == "win"


@pytest.mark.parametrize(
    "comparison",
    [compared(AROUND), compared(p=0.05), compared(NONE, float("nan")), compared(BELOW, float("nan"))],
    ids=["interval holds 0", "corrected p at alpha", "missing", "missing p"],
)
def test_a_gain_within_noise_is_none(comparison):
    found = judged(comparison, failed="perplexity_median")
    assert found["outcome"] == "no gain"
    assert "beyond noise" in found["reason"]


def test_a_gain_that_breaks_a_guard_is_not_a_win_and_names_it():
    found = judged(failed="perplexity_median, identity_mention_rate")
    assert found["outcome"] == "not a win"
    assert "perplexity_median, identity_mention_rate" in found["reason"]


def test_a_baseline_that_is_not_beaten_is_named():
    assert judged()["beats"] == {"word_filter": True}
    assert "word_filter" not in judged()["reason"]
    found = judged(filtered=compared(AROUND))
    assert found["beats"] == {"word_filter": False} and found["outcome"] == "win"
    assert "not shown less toxic than word_filter" in found["reason"]


def test_a_baseline_that_is_better_beyond_noise_is_said_to_be():
    found = judged(filtered=compared(ABOVE))
    assert found["beats"] == {"word_filter": False}
    assert "more toxic than word_filter" in found["reason"]


def test_a_reader_is_told_what_moved_within_its_guard_and_who_was_pleased_more():
    assert judged()["reason"] == "less toxic than the reference with every guard passed"
    moved = judged(change=BELOW, gap=True)
    assert moved["outcome"] == "win"
    assert "moved beyond noise within its guard: distinct_2" in moved["reason"]
    assert "gained more by the reward scorer than by mild" in moved["reason"]
    assert "distinct_2" not in judged(change=ABOVE)["reason"], "more of what may not be lost is no loss"


def outcomes(**named):
    return {name: {"outcome": outcome, "reason": f"because of {name}"} for name, outcome in named.items()}


def test_the_champion_is_the_least_toxic_winner_and_no_other():
    verdicts = outcomes(sft="win", ppo="not a win", dpo="win")
    found = champion(verdicts, {"sft": 0.2, "ppo": 0.05, "dpo": 0.1}, seeds=[3, 4])
    assert (found["policy"], found["seed"]) == ("dpo", 3)
    assert found["rule"] and "sft, dpo: because of dpo" in found["reason"]


def test_without_a_winner_there_is_no_champion_and_every_reason_is_told():
    found = champion(outcomes(sft="no gain", ppo="not a win"), {"sft": 0.2, "ppo": 0.1}, seeds=[0])
    assert (found["policy"], found["seed"]) == (None, None)
    assert "because of sft" in found["reason"] and "because of ppo" in found["reason"]
    assert champion({}, {}, seeds=[0])["policy"] is None
