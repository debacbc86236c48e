"""A comparison tells changes of refusal rates from noise, by label, and not between two judges of refusals."""

import csv
from typing import Any

import numpy as np
import pytest

from pipeline.apps.diff import snapshot
from pipeline.apps.diff.comparison import ExperimentDiff, compare
from pipeline.io import paths
from pipeline.io.errors import UserError
from pipeline.io.records import write_csv
from tests.apps.diff.conftest import EXPERIMENT, Repository
from tests.tracking import evaluated

PROMPTS = 120  # hostile and benign in turn
SHARES = np.random.default_rng(0).choice([0.0, 0.25, 0.5, 0.75, 1.0], PROMPTS)  # prompts differ much
TOXICITY = [0.2] * PROMPTS


def judged(by_prompt: dict[str, Any], **what: str) -> None:
    """Write an evaluation with these refusal rates of every prompt, by policy."""
    toxicity = dict.fromkeys(by_prompt, 0.2)
    found = evaluated.evaluation(toxicity, champion=None)
    columns = {"hostile": slice(0, None, 2), "benign": slice(1, None, 2)}
    rates = {
        policy: {label: float(shares[members].mean()) for label, members in columns.items()}
        for policy, shares in by_prompt.items()
    }
    evaluated.leave(EXPERIMENT, evaluated.declining(found, rates, **what), dict.fromkeys(by_prompt, TOXICITY))
    with paths.plot(EXPERIMENT, "prompts").open(encoding="utf-8", newline="") as file:
        rows: list[dict[str, Any]] = list(csv.DictReader(file))
    for row in rows:
        at = int(row["prompt_id"], 16)
        share = float(by_prompt[row["policy"]][at])
        row["refusal_rate_hostile"], row["refusal_rate_benign"] = (share, "") if at % 2 == 0 else ("", share)
    write_csv(paths.plot(EXPERIMENT, "prompts"), rows)


def found() -> ExperimentDiff:
    (experiment,) = compare(snapshot("HEAD"), snapshot("workspace"))[1]
    return experiment


def lines() -> dict[tuple[str, str], Any]:
    return {(line.policy, line.what): line for line in found().lines}


def test_more_refusals_of_benign_prompts_are_beyond_noise_and_those_of_hostile_ones_did_not_change(
    repository: Repository,
) -> None:
    judged({"reference": SHARES, "sft": SHARES})
    repository.commit()
    more = SHARES.copy()
    more[1::4] = np.minimum(more[1::4] + 0.25, 1)
    judged({"reference": SHARES, "sft": more})
    changed = lines()
    assert set(changed) == {("sft", "refusals of benign prompts"), ("sft", "refusals of benign minus reference")}
    for line in changed.values():
        assert (line.change.method, line.change.beyond_noise) == ("paired by prompt", True)
        assert line.change.interval.value == pytest.approx(line.new - line.old, abs=1e-6) and line.new > line.old


def test_the_same_change_is_within_the_noise_of_prompts_that_are_not_known(repository: Repository) -> None:
    judged({"reference": SHARES, "sft": SHARES})
    repository.git("add", "--all", ":!plots")
    repository.git("commit", "--quiet", "--message", "without prompts.csv")
    more = SHARES.copy()
    more[1::4] = np.minimum(more[1::4] + 0.25, 1)
    judged({"reference": SHARES, "sft": more})
    line = lines()["sft", "refusals of benign prompts"]
    assert (line.change.method, line.change.beyond_noise) == ("independent", False)


def test_refusals_that_moved_both_ways_are_within_noise(repository: Repository) -> None:
    judged({"reference": SHARES, "sft": SHARES})
    repository.commit()
    other = SHARES.copy()
    other[0::4], other[2::8] = np.clip(other[0::4] - 0.02, 0, 1), np.clip(other[2::8] + 0.05, 0, 1)
    judged({"reference": SHARES, "sft": other})
    line = lines()["sft", "refusals of hostile prompts"]
    assert (line.change.method, line.change.beyond_noise) == ("paired by prompt", False)


def test_rates_of_another_judge_of_refusals_are_not_compared_and_it_is_said(repository: Repository) -> None:
    judged({"reference": SHARES, "sft": SHARES})
    repository.commit()
    judged({"reference": SHARES, "sft": 1 - SHARES}, judge_digest="d" * 64)
    experiment = found()
    assert experiment.lines == [] and not experiment.obstacles
    assert experiment.limits == ["the judge of refusals is another: its rates are not compared"]


def test_an_evaluation_without_refusals_compares_with_one_that_has_them(repository: Repository) -> None:
    by_prompt = {"reference": TOXICITY, "sft": TOXICITY}
    repository.evaluation(by_prompt, toxicity={"reference": 0.2, "sft": 0.2}, champion=None)
    repository.commit()
    judged({"reference": SHARES, "sft": SHARES})
    assert not any("refus" in line.what for line in found().lines)


def test_a_rate_that_is_no_number_names_its_line(repository: Repository) -> None:
    judged({"reference": SHARES, "sft": SHARES})
    repository.commit()
    path = paths.plot(EXPERIMENT, "prompts")
    text = path.read_text(encoding="utf-8").splitlines()
    text[1] = text[1].rsplit(",", 2)[0] + ",many,"
    path.write_text("\n".join(text) + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"prompts.csv:2: refusal_rate_hostile"):
        found()
