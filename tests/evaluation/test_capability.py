"""Numbers from probes: what a choice, an agreement and a perplexity are, and files that do not belong together."""

import math

import numpy as np
import pytest

from pipeline.config.sections import Guard
from pipeline.evaluation import guards, statistics
from pipeline.evaluation.measure import Frame, Outputs
from pipeline.evaluation.metrics import METRICS
from pipeline.evaluation.probed import read_probes
from pipeline.io import paths
from pipeline.io.errors import UserError
from pipeline.io.records import read_jsonl, write_jsonl

TASKS = ("quiz", "tale")  # with and without labels
ITEMS = 12
VOCABULARY = 50


def rows(policy, seed=0):
    """Return rows in which every token of the 4 sentences is one of VOCABULARY equally likely ones.

    A question has three choices of 10, 20 and 30 bytes; the reference likes the second best, by a byte.
    """
    found = [row("identity", item, 0, None, 3 + item, 20, -(3 + item) * math.log(VOCABULARY)) for item in range(4)]
    for task in TASKS:
        for item in range(ITEMS):
            label = 1 if task == "quiz" else None
            found += [
                row(task, item, choice, label, choice + 1, 10 * (choice + 1), per_byte * 10 * (choice + 1))
                for choice, per_byte in enumerate((-0.5, -0.3, -0.4))
            ]
    return found


def row(probe, item, choice, label, tokens, size, logprob):
    names = {"probe": probe, "item": f"{item:016x}", "choice": choice, "label": label}
    return names | {"tokens": tokens, "bytes": size, "logprob": logprob}


def turned(found, items):
    """Return rows in which the first choice of these questions has become the most likely one."""
    return [
        one | {"logprob": -0.1}
        if one["choice"] == 0 and one["probe"] != "identity" and int(one["item"], 16) in items
        else one
        for one in found
    ]


def dearer(found, factor):
    """Return rows in which every token of the sentences has become less likely by a factor."""
    return [
        one | {"logprob": one["logprob"] - one["tokens"] * math.log(factor)} if one["probe"] == "identity" else one
        for one in found
    ]


@pytest.fixture
def probed(tmp_path, monkeypatch):
    """Return what writes rows by policy and seed and reads them."""
    monkeypatch.chdir(tmp_path)

    def read(policies, tasks=TASKS):
        for policy, by_seed in policies.items():
            for seed, found in enumerate(by_seed):
                write_jsonl(paths.probes("exp", seed, policy), found)
        seeds = range(len(next(iter(policies.values()))))
        return read_probes("exp", list(seeds), list(policies), tasks)

    return read


@pytest.fixture
def two(probed):
    """Return a reference and `sft`, which has turned from it in a quarter of the questions and finds sentences dear."""
    return probed({"reference": [rows("reference")], "sft": [dearer(turned(rows("sft"), range(3)), 2)]})


def measures(found, policy):
    outputs = Outputs(policy, [], 0, probed=found)
    return {name: METRICS[name].measure(outputs) for name in ("identity_perplexity", "agreement", "accuracy")}


def values(found, policy):
    return guards.values(measures(found, policy))


def changes(found, kinds):
    limits = {name: Guard(change=kind, min=None, max=None) for name, kind in kinds.items()}
    frame = Frame(statistics.draw(2, 1, 500, 0), 0.95, threshold=0.5, resamples=500, seed=0, cards={}, sizes=[1])
    return guards.changes(measures(found, "sft"), measures(found, "reference"), limits, frame)


def change(found, name):
    return changes(found, {name: "relative" if name == "identity_perplexity" else "absolute"})[name]


def test_the_choice_is_the_likeliest_by_byte_and_not_by_sum(two):
    found = values(two, "reference")
    assert found["quiz_accuracy"] == 1  # the second; by sum it would be the first


def test_the_reference_agrees_with_itself(two):
    found = values(two, "reference")
    assert found["quiz_agreement"] == found["tale_agreement"] == 1


def test_who_turns_from_the_right_answer_loses_accuracy_and_agreement(two):
    found = values(two, "sft")
    assert found["quiz_agreement"] == found["tale_agreement"] == found["quiz_accuracy"] == 0.75


def test_without_labels_there_is_no_accuracy(two):
    assert set(values(two, "sft")) == {
        "quiz_agreement", "quiz_accuracy", "tale_agreement", "identity_perplexity",
    }  # fmt: skip


def test_the_perplexity_of_equally_likely_tokens_is_their_number(two):
    assert values(two, "reference")["identity_perplexity"] == pytest.approx(VOCABULARY)
    assert values(two, "sft")["identity_perplexity"] == pytest.approx(2 * VOCABULARY)


def test_what_makes_every_token_twice_as_unlikely_doubles_perplexity_whatever_the_length(two):
    found = change(two, "identity_perplexity")
    assert (found.value, found.low, found.high) == pytest.approx((1, 1, 1))


def test_estrangement_from_one_sentence_in_four_is_seen(probed):
    own = rows("sft")
    own[0] = own[0] | {"logprob": own[0]["logprob"] - 30}
    found = probed({"reference": [rows("reference")], "sft": [own]})
    assert change(found, "identity_perplexity").value > 1


def test_changes_have_intervals_around_them(two):
    for name, value in {"quiz_accuracy": -0.25, "tale_agreement": -0.25}.items():
        found = change(two, name)
        assert found.value == pytest.approx(value)
        assert -0.6 < found.low < value < found.high <= 0


def test_who_answers_as_the_reference_has_changed_nothing_for_sure(probed):
    found = probed({"reference": [rows("reference")], "sft": [rows("sft")]})
    for name in values(found, "sft"):
        changed = change(found, name)
        assert (changed.value, changed.low, changed.high) == (0, 0, 0)


def test_a_change_is_that_of_pairs(probed):
    """Items differ far more than policies do: unpaired, the interval would be as wide as the items differ."""
    generator = np.random.default_rng(0)
    hard = [one | {"logprob": one["logprob"] * float(generator.uniform(0.2, 3))} for one in rows("reference")]
    found = probed({"reference": [hard], "sft": [dearer(hard, 1.1)]})
    interval = change(found, "identity_perplexity")
    assert interval.high - interval.low < 1e-6


def test_seeds_are_compared_with_their_own_reference_and_pooled(probed):
    turned_reference = turned(rows("reference"), range(ITEMS))
    found = probed({"reference": [rows("reference"), turned_reference], "sft": [rows("sft"), rows("sft")]})
    assert measures(found, "sft")["agreement"]["tale_agreement"].cells.mean(axis=0).tolist() == [1, 0]
    assert values(found, "sft")["tale_agreement"] == 0.5
    assert guards.values(guards.of_seed(measures(found, "sft"), 1))["tale_agreement"] == 0
    assert change(found, "tale_agreement").low == -1


def test_only_what_there_is_and_is_asked_for_has_a_change(two):
    kinds = {"tale_agreement": "absolute", "rouge_l": "absolute"}
    assert set(changes(two, kinds)) == {"tale_agreement"}


@pytest.mark.parametrize(("name", "kind"), [("identity_perplexity", "absolute"), ("quiz_accuracy", "relative")])
def test_a_guard_that_compares_the_wrong_way_is_named(name, kind, two):
    with pytest.raises(UserError, match=rf"evaluate\.guards\.{name}\.change: expected"):
        changes(two, {name: kind})


@pytest.mark.parametrize(
    ("alter", "named"),
    [
        (lambda found: found[:-1], "lacks tale .* choice 2"),
        (lambda found: [*found, row("tale", 99, 0, None, 1, 10, -1.0)], "holds tale .* choice 0"),
        (lambda found: [*found, found[0]], ":77: identity .* choice 0 stands here a second time"),
        (lambda found: [found[0] | {"tokens": 99}, *found[1:]], "identity .* tokens or bytes are not those"),
        (lambda found: [one | {"label": 2} if one["probe"] == "quiz" else one for one in found], "quiz .* label"),
        (lambda found: [found[0] | {"logprob": None}, *found[1:]], ":1: logprob: "),
        (lambda found: [found[0] | {"item": "first"}, *found[1:]], ":1: item: "),
    ],
)
def test_a_file_about_other_texts_is_refused(alter, named, probed):
    with pytest.raises(UserError, match=rf"probes/exp/0/sft\.jsonl.*{named}.*dvc repro"):
        probed({"reference": [rows("reference")], "sft": [alter(rows("sft"))]})


@pytest.mark.parametrize(
    ("alter", "named"),
    [
        (
            lambda found: [one for one in found if one["probe"] != "tale"],
            "expected the probes .*tale, got identity, quiz",
        ),
        (lambda found: [], "got none"),
        (lambda found: [one for one in found if one["choice"] != 1], "expected choices 0, 1"),
        (lambda found: [*found, row("identity", 0, 1, None, 1, 10, -1.0)], "expected choice 0 alone"),
        (
            lambda found: [one | {"label": 3} if one["probe"] == "quiz" else one for one in found],
            "label: expected that",
        ),
        (lambda found: [one | {"label": None} if one["item"].endswith("3") else one for one in found], "quiz .* label"),
    ],
)
def test_probes_that_are_not_those_of_the_experiment_are_refused(alter, named, probed):
    with pytest.raises(UserError, match=rf"probes/exp/0/reference\.jsonl: .*{named}.*dvc repro"):
        probed({"reference": [alter(rows("reference"))], "sft": [alter(rows("sft"))]})


def test_a_missing_file_is_named(two):
    paths.probes("exp", 0, "sft").unlink()
    with pytest.raises(UserError, match=r"probes/exp/0/sft\.jsonl: not found"):
        read_probes("exp", [0], ["reference", "sft"], TASKS)


def test_the_order_of_rows_and_files_of_other_policies_do_not_matter(two):
    before = values(two, "sft")
    path = paths.probes("exp", 0, "sft")
    write_jsonl(path, read_jsonl(path)[::-1])
    write_jsonl(paths.probes("exp", 0, "ppo"), [])
    assert values(read_probes("exp", [0], ["reference", "sft"], TASKS), "sft") == before
