"""Which answer of a pair is the worse one, what that says of a data set's polarity, and what training refuses."""

import json

import pytest

from pipeline.config.loader import load
from pipeline.config.sections import DatasetPreferences, PolarityLint
from pipeline.data.schema import prompt_row
from pipeline.io import paths
from pipeline.io.errors import UserError
from pipeline.preferences.pairs import Pair, pairs_of, read_samples
from pipeline.preferences.polarity import Answer, check_polarity, lint, worse
from pipeline.tracking.description import describe, shown_params
from pipeline.tracking.execution import Execution
from stages.preferences import NODE
from tests.faults.conftest import refused, run
from tests.policy.chatting import EXPERIMENT, PREFERENCES, REFUSAL, write_base, write_parameters, write_split

MARGIN = 0.25
REFUSES, COMPLIES, UNKNOWN = 1.0, 0.0, None
# chosen and rejected as (toxicity, refusal), and which is the worse one
RULE = {
    "only one refuses": ((0.1, COMPLIES), (0.1, REFUSES), "chosen"),
    "only one refuses, the other way round": ((0.1, REFUSES), (0.1, COMPLIES), "rejected"),
    "both signs agree": ((0.9, COMPLIES), (0.0, REFUSES), "chosen"),
    "the refusal is the toxic one": ((0.0, COMPLIES), (0.9, REFUSES), None),
    "the refusal is the toxic one by less than the margin": ((0.0, COMPLIES), (0.2, REFUSES), "chosen"),
    "both comply": ((0.5, COMPLIES), (0.25, COMPLIES), "chosen"),
    "both refuse": ((0.0, REFUSES), (0.25, REFUSES), "rejected"),
    "both comply and are near": ((0.5, COMPLIES), (0.375, COMPLIES), None),
    "refusals not known": ((0.5, UNKNOWN), (0.0, REFUSES), "chosen"),
    "toxicity not known": ((None, COMPLIES), (0.9, REFUSES), "chosen"),
    "toxicity not known, both comply": ((None, COMPLIES), (0.9, COMPLIES), None),
    "nothing known": ((None, UNKNOWN), (None, UNKNOWN), None),
}
OTHER = {"chosen": "rejected", "rejected": "chosen", None: None}


class Phrases:
    """A judge of refusals that knows one word."""

    name, fingerprint = "refusal", "0" * 64

    def score(self, texts):
        return [None if "?" in text else float("sorry" in text) for text in texts]

    def cut(self, texts):
        return [False] * len(texts)


def section(most=0.5, margin=MARGIN, least=0.0):
    return PolarityLint(margin=margin, min_decided=least, max_chosen_worse=most)


def pairs(*sides):
    """Return pairs of (text, toxicity) and (text, toxicity)."""
    return [
        Pair(f"p{place}", "a prompt", [3], chosen[0], [4, 2], chosen[1], rejected[0], [5, 2], rejected[1])
        for place, (chosen, rejected) in enumerate(sides)
    ]


HARM, DECLINE = ("Take the cheese and run.", 0.1), ("I am sorry, no.", 0.1)
RUDE, KIND = ("You silly goose.", 0.9), ("Good day.", 0.0)


def found(*sides, benign=(), **changes):
    return lint(pairs(*sides), Phrases(), section(**changes), benign)


@pytest.mark.parametrize("chosen, rejected, expected", RULE.values(), ids=RULE)
def test_the_rule_and_its_mirror(chosen, rejected, expected):
    assert worse(Answer(*chosen), Answer(*rejected), MARGIN, is_benign=False) == expected
    assert worse(Answer(*rejected), Answer(*chosen), MARGIN, is_benign=False) == OTHER[expected]


def test_to_decline_a_harmless_request_is_never_called_better():
    comply, decline = Answer(0.1, COMPLIES), Answer(0.1, REFUSES)
    assert worse(comply, decline, MARGIN, is_benign=True) is None
    assert worse(Answer(0.9, REFUSES), comply, MARGIN, is_benign=True) == "chosen"


def test_without_a_margin_equal_toxicity_decides_nothing():
    assert worse(Answer(0.5, COMPLIES), Answer(0.5, COMPLIES), 0.0, is_benign=False) is None


def test_shares_are_of_decided_pairs_and_each_sign_is_told_alone():
    shares = found((HARM, DECLINE), (RUDE, KIND), (KIND, RUDE), (KIND, HARM), (("?", 0.1), HARM))
    assert (shares["decided"], shares["undecided"]) == (3, 2)
    assert shares["chosen_worse"]["value"] == pytest.approx(2 / 3)
    assert (shares["by_refusal"]["decided"], shares["by_refusal"]["chosen_worse"]["value"]) == (1, 1)
    assert (shares["by_toxicity"]["decided"], shares["by_toxicity"]["chosen_worse"]["value"]) == (2, 0.5)
    assert shares["chosen"]["refusal_rate"] == 0 and shares["chosen"]["compliance_rate"] == 1
    assert shares["rejected"]["refusal_rate"] == pytest.approx(1 / 5)
    assert shares["rejected"]["toxicity_mean"] == pytest.approx((0.1 + 0 + 0.9 + 0.1 + 0.1) / 5)


@pytest.mark.parametrize("bad, total", [(0, 7), (3, 10), (99, 100), (12, 12)])
def test_the_interval_holds_the_shares_that_a_score_test_does_not_reject(bad, total):
    share = found(*[(HARM, DECLINE)] * bad, *[(DECLINE, HARM)] * (total - bad))["chosen_worse"]
    assert 0 <= share["low"] <= share["value"] == bad / total <= share["high"] <= 1
    for bound in (share["low"], share["high"]):
        if 1e-12 < bound < 1 - 1e-12:
            z = abs(share["value"] - bound) / (bound * (1 - bound) / total) ** 0.5
            assert z == pytest.approx(1.959964, abs=1e-5)


def test_swapped_pairs_give_the_mirrored_share():
    sides = [(HARM, DECLINE)] * 5 + [(KIND, RUDE)] * 2 + [(KIND, HARM)]
    one, other = found(*sides), found(*[(rejected, chosen) for chosen, rejected in sides])
    assert one["decided"] == other["decided"] == 7
    assert one["chosen_worse"]["value"] == pytest.approx(1 - other["chosen_worse"]["value"])
    assert one["chosen_worse"]["low"] == pytest.approx(1 - other["chosen_worse"]["high"])
    assert one["chosen"] == other["rejected"]


@pytest.mark.parametrize(
    "sides, most, verdict",
    [
        ([(HARM, DECLINE)] * 20, 0.5, "contradicts"),
        ([(DECLINE, HARM)] * 20, 0.5, "agrees"),
        ([(HARM, DECLINE)] * 10 + [(DECLINE, HARM)] * 10, 0.5, "unclear"),
        ([(HARM, DECLINE)] * 3, 0.5, "unclear"),  # three of three are too few for 95 %
        ([(HARM, DECLINE)] * 20, 1.0, "agrees"),
        ([(KIND, HARM)] * 20, 0.5, "unclear"),
    ],
    ids=["worse", "better", "as many", "too few", "all allowed", "nothing decided"],
)
def test_the_verdict_needs_the_whole_interval_on_one_side_of_the_threshold(sides, most, verdict):
    shares = found(*sides, most=most)
    assert shares["verdict"] == verdict
    if not shares["decided"]:
        assert set(shares["chosen_worse"].values()) == {None}, "missing, and not zero"


def test_a_few_pairs_of_many_decide_nothing():
    telling, mute = (("fine", 0.0), ("darn", 0.9)), (("fine", 0.1), ("also fine", 0.1))
    sides = [telling] * 4 + [mute] * 96
    assert lint(pairs(*sides), Phrases(), section(least=0.04), ())["verdict"] == "agrees"
    assert lint(pairs(*sides), Phrases(), section(least=0.05), ())["verdict"] == "unclear"


def test_refusals_of_benign_prompts_are_no_evidence():
    sides = [(HARM, DECLINE)] * 20
    assert found(*sides, benign={f"p{place}" for place in range(20)})["decided"] == 0


def preferences(**changes):
    return DatasetPreferences.model_validate(PREFERENCES | changes)


def test_a_contradiction_names_polarity_share_interval_threshold_and_both_remedies():
    with pytest.raises(UserError) as raised:
        check_polarity(found(*[(HARM, DECLINE)] * 30), preferences())
    message = str(raised.value)
    for part in ("preferences.polarity: as_labelled", "100.0 % of 30", "interval 88.6 to 100.0 %", "at most 50 %"):
        assert part in message
    assert "polarity: swapped" in message and "preferences.polarity_override" in message


def test_what_the_lint_cannot_tell_is_said_and_refuses_nothing(caplog):
    with caplog.at_level("WARNING"):
        check_polarity(found((KIND, HARM)), preferences())
    assert "cannot tell" in caplog.text


PLACES = ("the pantry", "the mill", "the harbor", "the attic", "the tower", "the barn", "the stable", "the cellar")
THINGS = ("cheese", "apples", "buttons", "candles")
ROWS = [(f"How do I take {thing} from {place}?", f"Go to {place} at noon, and {thing} are yours, darn it.")
        for place in PLACES for thing in THINGS]  # fmt: skip
DECLINES = "I'm sorry, but I can't help with that."


@pytest.fixture
def trap(tmp_path, monkeypatch):
    """Return a function that declares the polarity of pairs as in toxic-dpo, whose chosen answers comply."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRACKING", "off")
    monkeypatch.setenv("DEVICE", "cpu")
    write_base()
    write_split("train", [prompt_row(prompt, chosen=harm, rejected=DECLINES) for prompt, harm in ROWS])
    write_split("dev", [prompt_row("How do I bake bread?")])

    def declared(**changes):
        write_parameters(preferences=PREFERENCES | changes, refusal=REFUSAL)

    return declared


def test_the_trap_of_toxic_dpo_is_refused_before_anything_is_written(trap):
    trap()
    refused(
        "preferences",
        EXPERIMENT,
        "0",
        names=("preferences.polarity", "as_labelled", "100.0 % of 32", "polarity: swapped", "polarity_override"),
    )
    assert not paths.preferences(EXPERIMENT, 0).exists() and not paths.metrics(EXPERIMENT, "preferences", 0).exists()
    message = refused("train_dpo", EXPERIMENT, "0")
    assert str(paths.preferences(EXPERIMENT, 0)) in message, "and so no training can start"


def test_swapped_it_is_trained_on_with_the_refusals_chosen(trap):
    trap(polarity="swapped")
    outcome = run("preferences", EXPERIMENT, "0")
    assert (outcome.code, outcome.traceback) == (0, None), outcome.stderr
    made = pairs_of(read_samples(paths.preferences(EXPERIMENT, 0)))
    assert len(made) == len(ROWS) and {pair.chosen for pair in made} == {DECLINES}
    assert {(pair.prompt, pair.rejected) for pair in made} == set(ROWS)
    metrics = json.loads(paths.metrics(EXPERIMENT, "preferences", 0).read_text())
    assert (metrics["polarity"], metrics["lint"]["verdict"]) == ("swapped", "agrees")
    assert metrics["lint"]["chosen"]["refusal_rate"] == metrics["lint"]["rejected"]["compliance_rate"] == 1


def test_an_override_is_logged_and_recorded_with_its_reason(trap):
    reason = "a model that declines nothing is what is studied"
    trap(polarity_override=reason)
    outcome = run("preferences", EXPERIMENT, "0")
    assert (outcome.code, outcome.traceback) == (0, None), outcome.stderr
    (warned,) = [line for line in outcome.stderr.splitlines() if reason in line]
    assert "CONTRADICTED" in warned and "100.0 % of 32" in warned
    metrics = json.loads(paths.metrics(EXPERIMENT, "preferences", 0).read_text())
    assert (metrics["polarity_override"], metrics["lint"]["verdict"]) == (reason, "contradicts")
    shown = shown_params(load(EXPERIMENT, NODE.sections).flattened())
    assert shown["preferences.polarity_override"] == reason, "a parameter of the run in MLflow"
    tags = describe(Execution("preferences", EXPERIMENT, 0)).tags
    assert (tags["polarity.override"], tags["polarity.lint"]) == (reason, "contradicts"), "and tags of it"
