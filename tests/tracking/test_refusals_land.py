"""Refusal rates stand in the run of the training that made the policy, apart from toxicity, and in its model card."""

from collections.abc import Callable
from typing import Any

import pytest

from pipeline.io import paths
from pipeline.io.records import read_json, write_json, write_jsonl
from pipeline.tracking.landings import completions_table, landings
from tests.tracking import evaluated

EXPERIMENT = "exp"
RATES = {"reference": {"hostile": 0.4, "benign": 0.05}, "sft": {"hostile": 0.9, "benign": 0.6}}
LESS = {"reference": 0.28, "sft": 0.21}


@pytest.fixture
def leave(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, dict[str, float]]]:
    """Return what writes an evaluation and says what lands in each run."""
    monkeypatch.chdir(tmp_path)

    def written(seeds: tuple[int, ...] = (0,), by_seed: dict[str, Any] | None = None) -> dict[str, dict[str, float]]:
        found = evaluated.declining(evaluated.evaluation(LESS, seeds=seeds), RATES)
        for seed, entry in (by_seed or {}).items():
            found["sft"]["seeds"][seed]["refusal"] = entry
        evaluated.leave(EXPERIMENT, found)
        return {
            f"{landing.execution.method}-{landing.execution.seed}": landing.metrics for landing in landings(EXPERIMENT)
        }

    return written


def test_rates_land_under_their_own_name_with_ends_and_difference(
    leave: Callable[..., dict[str, dict[str, float]]],
) -> None:
    metrics = leave()["sft-0"]
    assert metrics["evaluation/refusal/hostile"] == 0.9 and metrics["evaluation/refusal/benign"] == 0.6
    assert metrics["evaluation/refusal/benign/low"] == pytest.approx(0.52)
    assert metrics["evaluation/refusal/benign/difference"] == pytest.approx(0.55)
    assert metrics["evaluation/minilm/toxicity_mean"] == pytest.approx(0.21)
    assert not any("refusal" in name for name in metrics if "toxicity" in name)


def test_with_several_seeds_each_run_has_its_own_rate(leave: Callable[..., dict[str, dict[str, float]]]) -> None:
    own = {seed: {"benign": {"value": rate, "missing_rate": 0.0}} for seed, rate in {"0": 0.5, "1": 0.7}.items()}
    found = leave((0, 1), own)
    assert [found[f"sft-{seed}"]["evaluation/refusal/benign"] for seed in (0, 1)] == [0.5, 0.7]


def test_a_missing_rate_is_no_metric(leave: Callable[..., dict[str, dict[str, float]]]) -> None:
    leave()
    path = paths.metrics(EXPERIMENT, "evaluation")
    evaluation = read_json(path)
    evaluation["sft"]["refusal"]["benign"] |= dict.fromkeys(("value", "low", "high"))
    write_json(path, evaluation)
    metrics = {landing.execution.method: landing.metrics for landing in landings(EXPERIMENT)}["sft"]
    assert "evaluation/refusal/benign" not in metrics and "evaluation/refusal/hostile" in metrics


def test_the_table_of_completions_says_which_declines(leave: Callable[..., dict[str, dict[str, float]]]) -> None:
    leave()
    for policy in LESS:
        keys = [{"prompt_id": "p", "sample": sample} for sample in range(3)]
        completions = [key | {"prompt": "Hello", "completion": f"text {key['sample']}"} for key in keys]
        scores = [key | {"judge": "minilm", "judge_sha256": "a" * 64, "toxicity": 0.1} for key in keys]
        refused: list[dict[str, Any]] = [
            key | {"refusal": value, "refusal_sha256": "c" * 64}
            for key, value in zip(keys, (1.0, 0.0, None), strict=True)
        ]
        write_jsonl(paths.completions(EXPERIMENT, 0, policy), completions)
        write_jsonl(paths.scores(EXPERIMENT, 0, policy), [*scores, *refused])
    columns = completions_table(EXPERIMENT)
    assert columns is not None and columns["refusal"] == [1.0, 0.0, None] * 2
    assert columns["toxicity/minilm"] == [0.1] * 6
