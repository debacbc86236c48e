"""PPO is blind to the architecture: one and the same trainer improves a decoder-only and an encoder-decoder policy."""

import math
from pathlib import Path
from typing import Any

import pytest

from pipeline.scorers.keyword import KeywordScorer, load
from tests.methods.ppo.tiny_ppo import reward_of
from tests.methods.trainings import train
from tests.policy.tiny_llama import LLAMA
from tests.policy.tiny_model import WORDS, TinyModel, prompts, section
from tests.policy.tiny_t5 import T5

COMMON = load("common", KeywordScorer(kind="keyword", keywords=[f"{word} " for word in WORDS[::3]], saturation=8))
SETTINGS = {
    "steps": 6,
    "prompts_per_step": 16,
    "samples_per_prompt": 4,
    "max_new_tokens": 8,
    "minibatch_size": 32,
    "micro_batch_size": 16,
    "epochs": 2,
    "learning_rate": 2e-2,
    "value_learning_rate": 1e-2,
    "warmup_steps": 0,
    "kl_coef": 0.0,
    "kl_target": None,
    "missing_eos_penalty": 0.0,
}


@pytest.fixture(params=[LLAMA, T5], ids=lambda tiny: tiny.architecture)
def tiny(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TinyModel:
    """Lay the tiny model of one architecture out on disk, then that of the other."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEVICE", "cpu")
    request.param.write_base()
    return request.param


def curves(policy: Any, **changes: Any) -> list[dict[str, float]]:
    """Train, and return the statistics of every step."""
    ppo = section("ppo", **(SETTINGS | changes))
    return train(policy, "ppo", prompts(16), ppo, reward=reward_of(COMMON.score)).curves


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("reference", ["adapter off", "reference adapter on"])
def test_a_step_is_finite_and_starts_at_ratio_1(tiny, reference, dropout):
    if reference == "reference adapter on":
        tiny.write_task_reference()
    for statistics in curves(tiny.new_policy(dropout=dropout), steps=2):
        assert all(math.isfinite(value) for value in statistics.values())
        assert statistics["policy/first_ratio_deviation"] < 1e-4
        assert statistics["policy/ratio_deviation"] > 1e-3, "later updates must move the policy"


def test_steps_raise_the_score(tiny):
    scores = [statistics["objective/score"] for statistics in curves(tiny.new_policy())]
    assert scores[-1] > scores[0] + 0.2
