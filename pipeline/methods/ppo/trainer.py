"""How long the phases of a step take."""

import functools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from pipeline.io.errors import NotFiniteError, UserError
from pipeline.methods.ppo import PPOSection
from pipeline.methods.ppo.health import Health
from pipeline.methods.ppo.objectives import KLController, ScoreScaling, estimate_advantages, shape_rewards
from pipeline.methods.ppo.rollout import Rollout, describe
from pipeline.methods.ppo.update import Updater
from pipeline.policy.masking import masked_whiten
from pipeline.policy.sampling import derived_seed
from pipeline.policy.types import Analysis, Completion, Decoding, Policy, Prompt
from pipeline.scorers.reward import Reward


class Timed(Protocol):
    """Something with a policy that keeps the seconds of its phases."""

    seconds: dict[str, float]
    policy: Policy


def phase(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the seconds that a method takes to `self.seconds` under the method's name."""

    @functools.wraps(function)
    def timed(self: Timed, *arguments: Any, **keywords: Any) -> Any:
        started = time.perf_counter()
        result = function(self, *arguments, **keywords)
        if self.policy.device.type == "cuda":
            torch.cuda.synchronize(self.policy.device)  # kernels run on after the call that started them has returned
        elapsed = time.perf_counter() - started
        self.seconds[function.__name__] = self.seconds.get(function.__name__, 0.0) + elapsed
        return result

    return timed


class PPOTrainer:
    """Optimise a policy for the reward's scores; the reference is the same weights behind `policy.reference()`.

    `seconds` holds how long the phases of the last step took, by the name of their method. `batch_size` completions
    are sampled at once.
    """

    def __init__(self, policy: Policy, reward: Reward, ppo: PPOSection, seed: int, batch_size: int) -> None:
        self.policy, self.reward, self.ppo = policy, reward, ppo
        self.seed, self.batch_size = seed, batch_size
        self.kl = KLController(ppo.kl_coef, ppo.kl_target, ppo.kl_horizon)
        self.scaling = ScoreScaling(ppo.score_scaling, ppo.score_clip)
        self.health = Health(policy.ratio_tolerance, expects_eos=ppo.missing_eos_penalty > 0)
        self.updater = Updater(policy, ppo, seed)
        self.seconds: dict[str, float] = {}
        self.steps_done = 0
        self._good = (0, self._copy())
        policy.eval()  # dropout in rollout or update would make the ratio differ from 1 before any update

    def step(self, prompts: Sequence[Prompt]) -> dict[str, float]:
        """Make one rollout of the prompts, optimise on it, and return the step's statistics."""
        self.seconds.clear()
        completions = self.complete(prompts)
        with self.scoring(completions) as found:
            before = self.analyze(completions)
            ref_logprobs = self.reference(completions)
        scores = self.score(found)
        completions, scores, before, ref_logprobs = _scored(completions, scores, before, ref_logprobs)
        log_ratio = before.logprobs - ref_logprobs
        rewards = self.shape(completions, scores, log_ratio, before.mask)
        advantages, returns = self.advantages(rewards, before)
        rollout = Rollout(completions, scores, before, log_ratio, rewards, advantages, returns)
        statistics = self.describe(rollout)
        statistics |= self.optimise(rollout)
        self.kl.update(statistics["objective/kl"], len(completions))
        self.steps_done += 1
        return statistics

    @phase
    def complete(self, prompts: Sequence[Prompt]) -> list[Completion]:
        """Sample from the whole distribution: any truncation would make the probability ratio wrong.

        A policy that could be sampled from is good: its weights are kept until another one was.
        """
        with self._naming_the_step(prompts):
            completions = self.policy.complete(
                prompts,
                Decoding(self.ppo.max_new_tokens),
                samples=self.ppo.samples_per_prompt,
                seed=derived_seed(self.seed, self.steps_done),
                batch_size=self.batch_size,
            )
        self.hold_as_good()
        return completions

    @contextmanager
    def scoring(self, completions: Sequence[Completion]) -> Iterator[Callable[[], list[float | None]]]:
        """Score the completions while the block runs the policy; yield what waits for the result.

        Beside a CUDA device only: on the CPU both would fight for the same cores, and the waiting does the scoring.
        """
        score = partial(self.reward.scores, *_texts(completions))
        if self.policy.device.type == "cuda":
            with ThreadPoolExecutor(max_workers=1) as aside:
                yield aside.submit(score).result
        else:
            yield score

    @phase
    def analyze(self, completions: Sequence[Completion]) -> Analysis:
        """Return logprobs, entropy and values of the policy before the update: recalled from sampling where exact."""
        return self.policy.recall(completions)

    @phase
    def reference(self, completions: Sequence[Completion]) -> Tensor:
        """Return the reference's logprobs [B, T], from the same weights with another adapter or none."""
        with torch.no_grad(), self.policy.reference():
            return self.policy.analyze(completions).logprobs

    @phase
    def score(self, found: Callable[[], list[float | None]]) -> Tensor:
        """Return the reward's scores [B], NaN where it could tell nothing; raise UserError when it could score none."""
        scores = [math.nan if value is None else value for value in found()]
        if all(map(math.isnan, scores)):
            raise UserError(
                f"ppo step {self.steps_done + 1}: the scorer {self.reward.name!r} could score none of "
                f"{len(scores)} completions; check the scorer"
            )
        return torch.tensor(scores, device=self.policy.device)

    def shape(self, completions: Sequence[Completion], scores: Tensor, log_ratio: Tensor, mask: Tensor) -> Tensor:
        """Return the reward of every token [B, T]: scaled score, less the price of KL and of a missing EOS."""
        cut = torch.tensor([not item.finished for item in completions], device=scores.device)
        scaled = self.scaling(scores) - self.ppo.missing_eos_penalty * cut
        return shape_rewards(scaled, log_ratio, mask, self.kl.coef)

    def advantages(self, rewards: Tensor, before: Analysis) -> tuple[Tensor, Tensor]:
        """Return advantages and returns, both [B, T], whitened over real tokens where the parameters say so."""
        ppo, mask = self.ppo, before.mask
        if ppo.whiten_rewards:
            rewards = masked_whiten(rewards, mask, shift_mean=False)
        advantages, returns = estimate_advantages(rewards, before.values, mask, ppo.gamma, ppo.gae_lambda)
        return (masked_whiten(advantages, mask) if ppo.whiten_advantages else advantages), returns

    def describe(self, rollout: Rollout) -> dict[str, float]:
        """Return what the rollout says of the policy before the update, and what the update is made with."""
        drawn = self.ppo.prompts_per_step * self.ppo.samples_per_prompt
        return describe(rollout) | {
            "objective/unscored": float(drawn - len(rollout.completions)),
            "objective/cut": float(sum(self.reward.cut(*_texts(rollout.completions)))),
            "objective/kl_coef": self.kl.coef,
            "policy/learning_rate": self.updater.learning_rate,
        }

    @phase
    def optimise(self, rollout: Rollout) -> dict[str, float]:
        """Update the policy on the rollout and return the statistics of the updates.

        The next rollout tells whether a policy can be sampled from; after the last update one token a prompt does.
        """
        prompts = list(dict.fromkeys(item.prompt for item in rollout.completions))
        with self._naming_the_step(prompts):
            statistics = self.updater.optimise(rollout)
            if self.steps_done + 1 == self.ppo.steps:
                self.policy.complete(prompts, Decoding(1), samples=1, seed=self.seed, batch_size=self.batch_size)
            return statistics

    def is_finite(self) -> bool:
        """Return whether adapter and value head are numbers: a step can end with weights that the next finds out."""
        return all(bool(parameter.isfinite().all()) for parameter in self.updater.parameters)

    def hold_as_good(self) -> None:
        """Take the weights as they are for the last that are known to be good."""
        self._good = (self.steps_done, self._copy())

    def restore_last_good(self) -> int:
        """Give adapter and value head the weights that were last sampled from; return after how many steps that was."""
        steps, weights = self._good
        with torch.no_grad():
            for parameter, value in zip(self.updater.parameters, weights, strict=True):
                parameter.copy_(value)
        return steps

    def _copy(self) -> list[Tensor]:
        return [parameter.detach().clone() for parameter in self.updater.parameters]

    @contextmanager
    def _naming_the_step(self, prompts: Sequence[Prompt]) -> Iterator[None]:
        try:
            yield
        except NotFiniteError as error:
            ids = error.prompt_ids or [prompt.id for prompt in prompts]
            raise NotFiniteError(
                f"ppo step {self.steps_done + 1}: {error} (prompts {', '.join(ids)}); lower "
                "methods.ppo.learning_rate or use model.dtype float32",
                ids,
            ) from None


def _texts(completions: Sequence[Completion]) -> tuple[list[str], list[str]]:
    """Return the texts of the prompts and of the completions."""
    return [item.prompt.text for item in completions], [item.text for item in completions]


def _scored(
    completions: Sequence[Completion], scores: Tensor, before: Analysis, ref_logprobs: Tensor
) -> tuple[list[Completion], Tensor, Analysis, Tensor]:
    """Leave out the completions without a score."""
    known = ~scores.isnan()
    kept = [item for item, keep in zip(completions, known.tolist(), strict=True) if keep]
    return kept, scores[known], Analysis(*(tensor[known] for tensor in before)), ref_logprobs[known]
