"""How completions get their scores: what the scorer is given, when it is asked, and what it cannot tell."""

import dataclasses
import threading
import time
from typing import Any

import pytest
import torch

from pipeline.io.errors import UserError
from tests.methods.ppo.tiny_ppo import HARSH, REWARD, prompts, rollouts_of, trainer_of
from tests.policy import tiny_llama


class Listener:
    """A scorer that remembers what it was given and in which thread; it may wait to be released, or fail."""

    def __init__(self, error: Exception | None = None) -> None:
        self.texts: list[str] = []
        self.threads: list[threading.Thread] = []
        self.started, self.released = threading.Event(), threading.Event()
        self.released.set()
        self._error = error

    def __call__(self, texts: list[str]) -> list[float | None]:
        """Score as HARSH does."""
        self.texts.extend(texts)
        self.threads.append(threading.current_thread())
        self.started.set()
        assert self.released.wait(timeout=20)
        if self._error is not None:
            raise self._error
        return HARSH.score(texts)


def trainer_beside(policy: Any, device: str, scorer: Listener) -> Any:
    """Return a trainer that believes its policy to be on another device."""
    trainer = trainer_of(policy, scorer)
    trainer.device = torch.device(device)
    return trainer


def scores_of(items: list[Any]) -> list[float]:
    """Return what REWARD gives for what HARSH says of completions."""
    return [REWARD["offset"] - REWARD["scale"] * value for value in HARSH.score([item.text for item in items])]


def test_beside_cuda_the_scorer_runs_while_the_policy_does(policy: Any) -> None:
    scorer, items = Listener(), tiny_llama.completions(4)
    scorer.released.clear()
    with trainer_beside(policy, "cuda", scorer).scoring(items) as found:
        assert scorer.started.wait(timeout=20), "the scorer waits for the block to end"
        scorer.released.set()
    assert scorer.threads != [threading.current_thread()]
    assert found() == scores_of(items)
    assert len(scorer.threads) == 1, "asking for the result does not score again"


def test_what_fails_beside_the_policy_fails_in_the_caller(policy: Any) -> None:
    scorer = Listener(UserError("scorers.harsh: broken"))
    with trainer_beside(policy, "cuda", scorer).scoring(tiny_llama.completions(4)) as found:
        assert scorer.started.wait(timeout=20)
    with pytest.raises(UserError, match="scorers.harsh: broken"):
        found()


def test_on_the_cpu_the_scorer_runs_after_the_policy_in_the_same_thread(policy: Any) -> None:
    scorer, items = Listener(), tiny_llama.completions(4)
    with trainer_beside(policy, "cpu", scorer).scoring(items) as found:
        assert not scorer.started.wait(timeout=0.2)
    assert found() == scores_of(items)
    assert scorer.threads == [threading.current_thread()]


def test_the_time_of_the_scorer_is_that_of_the_phase_score(policy: Any) -> None:
    trainer = trainer_of(policy, lambda texts: (time.sleep(0.2), HARSH.score(texts))[1])
    trainer.step(0)
    assert trainer.seconds["score"] > 0.19


def test_texts_are_scored_without_their_prompts(policy: Any) -> None:
    scorer = Listener()
    marked = [type(item)(item.id, "MARK " + item.text, item.token_ids) for item in prompts()]
    trainer_of(policy, scorer, given=marked).step(0)
    assert len(scorer.texts) == 16 and all(len(text.split()) <= 8 for text in scorer.texts)
    assert not any("MARK" in text for text in scorer.texts)


def test_with_prompt_and_completion_the_scorer_reads_both(policy: Any) -> None:
    scorer = Listener()
    trainer = trainer_of(policy, scorer, reward={"reads": "prompt_and_completion"})
    rollouts = rollouts_of(trainer)
    trainer.step(0)
    assert scorer.texts == [f"{item.prompt.text}\n{item.text}" for item in rollouts[0].completions]


def test_texts_that_the_scorer_did_not_read_to_the_end_are_counted(policy: Any) -> None:
    class Short:
        """Reads four words."""

        def cut(self, texts: list[str]) -> list[bool]:
            return [len(text.split()) > 4 for text in texts]

    trainer = trainer_of(policy)
    assert trainer.step(0).statistics["objective/cut"] == 0
    trainer.reward = dataclasses.replace(trainer.reward, scorer=Short())
    rollouts = rollouts_of(trainer)
    statistics = trainer.step(0).statistics
    long = [item for item in rollouts[0].completions if len(item.text.split()) > 4]
    assert statistics["objective/cut"] == len(long) > 0


def test_the_score_is_the_offset_less_the_scaled_toxicity(policy: Any) -> None:
    trainer = trainer_of(policy, reward=REWARD | {"offset": 0.25, "scale": 3.0})
    rollouts = rollouts_of(trainer)
    trainer.step(0)
    expected = [0.25 - 3 * toxicity for toxicity in HARSH.score([item.text for item in rollouts[0].completions])]
    assert rollouts[0].scores.tolist() == pytest.approx(expected) and len(set(expected)) > 1


def test_what_can_not_be_scored_leaves_the_rollout(policy: Any) -> None:
    def forgetful(texts: list[str]) -> list[float | None]:
        return [value if place % 4 else None for place, value in enumerate(HARSH.score(texts))]

    whole, trainer = trainer_of(policy).complete(0), trainer_of(policy, forgetful)
    rollouts = rollouts_of(trainer)
    statistics = trainer.step(0).statistics
    kept = [item for place, item in enumerate(whole) if place % 4]
    assert rollouts[0].completions == kept and len(kept) == 12
    assert statistics["objective/unscored"] == 4
    assert statistics["objective/score"] == pytest.approx(rollouts[0].scores.mean().item())
    again = policy.analyze(kept, recall=True)  # the rows that stay are those of the completions that stay
    assert torch.equal(rollouts[0].before.logprobs[:, : again.mask.shape[1]], again.logprobs)


def test_a_rollout_without_any_score_names_method_and_scorer(policy: Any) -> None:
    trainer = trainer_of(policy, lambda texts: [None] * len(texts))
    with pytest.raises(UserError, match="ppo: the scorer 'harsh' could score none of 16 completions"):
        trainer.step(0)
