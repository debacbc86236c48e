"""PPO: one step is a rollout of the policy, scored and compared with the reference, and the updates made on it."""

import functools
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from pipeline.io.errors import UserError
from pipeline.methods.loop.loop import TIME, Update, run
from pipeline.methods.loop.optimizer import Optimizer, check_finite
from pipeline.methods.ppo import PPOSection
from pipeline.methods.ppo.health import CAUSES, Health
from pipeline.methods.ppo.objectives import (
    KLController,
    ScoreScaling,
    estimate_advantages,
    policy_loss,
    shape_rewards,
    value_loss,
)
from pipeline.methods.ppo.rollout import Rollout, describe, scored_only
from pipeline.methods.training import Trained, Training
from pipeline.policy.masking import masked_mean, masked_whiten
from pipeline.policy.sampling import derived_seed
from pipeline.policy.types import Analysis, Completion, Decoding, Policy, Prompt
from pipeline.scorers.reward import Reward

_LARGEST = "policy/ratio_deviation"  # over a minibatch the largest is kept; everything else is a mean over tokens


def train(training: Training, section: PPOSection) -> Trained:
    """Train the adapter in place on rollouts of the train prompts."""
    training.model.eval()  # dropout in rollout or update would make the ratio differ from 1 before any update
    prompts = training.prompts("train")
    trainer = PPOTrainer(training.policy, training.reward, prompts, section, training.seed)
    return Trained(run(training, trainer), len(prompts), {"health": dict(trainer.health.seen)})


def phase(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the seconds that a method of the trainer takes to `seconds` under the method's name."""

    @functools.wraps(function)
    def timed(self: "PPOTrainer", *arguments: Any) -> Any:
        started = time.perf_counter()
        result = function(self, *arguments)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)  # kernels run on after the call that started them has returned
        elapsed = time.perf_counter() - started
        self.seconds[function.__name__] = self.seconds.get(function.__name__, 0.0) + elapsed
        return result

    return timed


class PPOTrainer:
    """Optimise a policy for the reward's scores; the reference is the same weights acting as it.

    `seconds` holds how long the phases of the last step took, by the name of their method.
    """

    shown: Mapping[str, str] = {"objective/score": "score", "objective/kl": "kl"}

    def __init__(self, policy: Policy, reward: Reward, prompts: Sequence[Prompt], ppo: PPOSection, seed: int) -> None:
        self.policy, self.reward, self.prompts, self.ppo, self.seed = policy, reward, prompts, ppo, seed
        self.steps = ppo.steps
        if len(prompts) < ppo.prompts_per_step:
            raise UserError(
                f"methods.ppo.prompts_per_step: expected at most the {len(prompts)} train prompts, "
                f"got {ppo.prompts_per_step}; lower it"
            )
        learnt = policy.trainable()
        self.device = learnt["value_head"][0].device
        self.optimizer = Optimizer(
            {"policy": learnt["adapter"], "value": learnt["value_head"]},
            {"policy": ppo.learning_rate, "value": ppo.value_learning_rate},
            self._learning_rate_factor,
            max_grad_norm=ppo.max_grad_norm,
        )
        self.kl = KLController(ppo.kl_coef, ppo.kl_target, ppo.kl_horizon)
        self.scaling = ScoreScaling(ppo.score_scaling, ppo.score_clip)
        self.health = Health(policy.is_exact, expects_eos=ppo.missing_eos_penalty > 0)
        self.seconds: dict[str, float] = {}

    def step(self, done: int) -> Update:
        """Make one rollout, optimise on it, and return the step's statistics."""
        self.seconds.clear()
        completions = self.complete(done)
        with self.scoring(completions) as found:
            before = self.analyze(completions)
            ref_logprobs = self.reference(completions)
        scores = self.score(found)
        completions, scores, before, ref_logprobs = scored_only(completions, scores, before, ref_logprobs)
        log_ratio = before.logprobs - ref_logprobs
        rewards = self.shape(completions, scores, log_ratio, before.mask)
        if done == 0:
            before = self.start_values(rewards, before)
        advantages, returns = self.advantages(rewards, before)
        rollout = Rollout(completions, scores, before, log_ratio, rewards, advantages, returns)
        statistics = self.describe(rollout)
        statistics |= self.optimise(rollout, done)
        self.kl.update(statistics["objective/kl"], len(completions))
        statistics |= self.watch(statistics, done)
        return Update(statistics | self.speed(statistics), completions)

    @phase
    def complete(self, done: int) -> list[Completion]:
        """Sample from the whole distribution: any truncation would make the probability ratio wrong.

        Weights that could be sampled from are good.
        """
        ppo = self.ppo
        completions = self.policy.complete(
            self.batch(done),
            Decoding(ppo.max_new_tokens),
            samples=ppo.samples_per_prompt,
            seed=derived_seed(self.seed, done),
            batch_size=ppo.prompts_per_step * ppo.samples_per_prompt,
        )
        self.optimizer.hold(done)
        return completions

    def batch(self, done: int) -> list[Prompt]:
        """Return the prompts of a step: different ones, all prompts in a new order each time around.

        What is left over at the end of a round is not used: a prompt twice in a batch would get the same noise twice.
        """
        size = self.ppo.prompts_per_step
        around, place = divmod(done, len(self.prompts) // size)
        order = torch.randperm(len(self.prompts), generator=self._generator("prompts", around))
        return [self.prompts[index] for index in order[place * size :][:size].tolist()]

    @contextmanager
    def scoring(self, completions: Sequence[Completion]) -> Iterator[Callable[[], list[float | None]]]:
        """Score the completions while the block runs the policy; yield what waits for the result.

        Beside a CUDA device only: on the CPU both would fight for the same cores, and the waiting does the scoring.
        """
        score = partial(self.reward.scores, *_texts(completions))
        if self.device.type == "cuda":
            with ThreadPoolExecutor(max_workers=1) as aside:
                yield aside.submit(score).result
        else:
            yield score

    @phase
    def analyze(self, completions: Sequence[Completion]) -> Analysis:
        """Return logprobs, entropy and values of the policy before the update: recalled from sampling where exact."""
        with torch.no_grad():
            return self.policy.analyze(completions, recall=True)

    @phase
    def reference(self, completions: Sequence[Completion]) -> Tensor:
        """Return the reference's logprobs [B, T], from the same weights with another adapter or none."""
        with torch.no_grad(), self.policy.acting_as("reference"):
            return self.policy.analyze(completions).logprobs

    @phase
    def score(self, found: Callable[[], list[float | None]]) -> Tensor:
        """Return the reward's scores [B], NaN where it gave none; raise UserError when it could score none."""
        scores = [math.nan if value is None else value for value in found()]
        if all(map(math.isnan, scores)):
            raise UserError(
                f"ppo: the scorer {self.reward.name!r} could score none of {len(scores)} completions; check the scorer"
            )
        return torch.tensor(scores, device=self.device)

    def shape(self, completions: Sequence[Completion], scores: Tensor, log_ratio: Tensor, mask: Tensor) -> Tensor:
        """Return the reward of every token [B, T]: scaled score, less the price of KL and of a missing EOS."""
        unfinished = torch.tensor([not item.finished for item in completions], device=scores.device)
        scaled = self.scaling(scores) - self.ppo.missing_eos_penalty * unfinished
        return shape_rewards(scaled, log_ratio, mask, self.kl.coef)

    def start_values(self, rewards: Tensor, before: Analysis) -> Analysis:
        """Start the value head at the mean of the first rollout's returns, and return it as known before the update.

        What it has to learn then is only how tokens differ.
        """
        mask, nothing = before.mask, torch.zeros_like(rewards)
        _, returns = estimate_advantages(self._whitened(rewards, mask), nothing, mask, self.ppo.gamma, gae_lambda=1.0)
        mean = masked_mean(returns, mask)
        _, bias = self.policy.trainable()["value_head"]
        bias.data += mean
        return before._replace(values=torch.where(mask, before.values + mean, 0.0))

    def advantages(self, rewards: Tensor, before: Analysis) -> tuple[Tensor, Tensor]:
        """Return advantages and returns, both [B, T], whitened over real tokens where the parameters say so."""
        ppo, mask = self.ppo, before.mask
        rewards = self._whitened(rewards, mask)
        advantages, returns = estimate_advantages(rewards, before.values, mask, ppo.gamma, ppo.gae_lambda)
        return (masked_whiten(advantages, mask) if ppo.whiten_advantages else advantages), returns

    def describe(self, rollout: Rollout) -> dict[str, float]:
        """Return what the rollout says of the policy before the update, and what the update is made with."""
        drawn = self.ppo.prompts_per_step * self.ppo.samples_per_prompt
        return describe(rollout) | {
            "objective/unscored": float(drawn - len(rollout.completions)),
            "objective/cut": float(sum(self.reward.cut(*_texts(rollout.completions)))),
            "objective/kl_coef": self.kl.coef,
            "policy/learning_rate": self.optimizer.learning_rate,
        }

    @phase
    def optimise(self, rollout: Rollout, done: int) -> dict[str, float]:
        """Take `epochs` passes of minibatches over the rollout and return the mean of what they report.

        Stops before the update whose approx_kl is above max_approx_kl (target_kl of OpenAI Spinning Up and
        Stable-Baselines3, without their factor 1.5). Raises NotFiniteError for a loss or gradient that is not finite.
        """
        reports: list[dict[str, float]] = []
        updates = 0
        for indices in self._minibatches(len(rollout.completions), done):
            reports.append(self._gather(rollout, indices))
            if self.ppo.max_approx_kl is not None and reports[-1]["policy/approx_kl"] > self.ppo.max_approx_kl:
                break
            self.optimizer.step()
            updates += 1
        if updates:
            self.optimizer.advance()
        merged = {key: sum(report[key] for report in reports) / len(reports) for key in reports[0]}
        return merged | {"policy/first_ratio_deviation": reports[0][_LARGEST], "policy/updates": float(updates)}

    def watch(self, statistics: Mapping[str, float], done: int) -> dict[str, float]:
        """Return which causes of bad health the step shows; those that the last one had not are printed."""
        known, causes = self.health.last, self.health.check(statistics)
        for cause in sorted(set(causes) - set(known)):
            tqdm.write(f"ppo step {done + 1}: {cause}: {CAUSES[cause]}", file=sys.stderr)
        return {f"health/{cause}": float(cause in causes) for cause in CAUSES}

    def speed(self, statistics: Mapping[str, float]) -> dict[str, float]:
        """Return seconds by phase and the completions' tokens a second of the step that was just made."""
        drawn = self.ppo.prompts_per_step * self.ppo.samples_per_prompt - statistics["objective/unscored"]
        tokens = statistics["objective/length"] * drawn / sum(self.seconds.values())
        return {f"{TIME}tokens_per_second": tokens, **{TIME + name: value for name, value in self.seconds.items()}}

    def state(self) -> dict[str, Any]:
        """Return every running number; all else follows from the seed and the number of steps."""
        return {"kl_coef": self.kl.coef, "scaling": self.scaling.state(), "health": self.health.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over the running numbers of another."""
        self.kl.coef = state["kl_coef"]
        self.scaling.restore(state["scaling"])
        self.health.restore(state["health"])

    def _whitened(self, rewards: Tensor, mask: Tensor) -> Tensor:
        return masked_whiten(rewards, mask, shift_mean=False) if self.ppo.whiten_rewards else rewards

    def _minibatches(self, completions: int, done: int) -> list[Tensor]:
        shuffle = self._generator("minibatches", done)
        return [
            indices
            for _ in range(self.ppo.epochs)
            for indices in torch.randperm(completions, generator=shuffle).split(self.ppo.minibatch_size)
        ]

    def _gather(self, rollout: Rollout, indices: Tensor) -> dict[str, float]:
        """Gather the gradient of a minibatch from micro-batches, clip it, and return its statistics."""
        self.optimizer.zero_grad()
        tokens = rollout.mask[indices].sum()
        report: dict[str, float] = {}
        order = sorted(indices.tolist(), key=lambda index: rollout.completions[index].reading_order)
        for part in torch.tensor(order).split(self.ppo.micro_batch_size):
            share = (rollout.mask[part].sum() / tokens).item()
            for key, value in self._accumulate(rollout, part, share).items():
                report[key] = _largest(report.get(key, 0.0), value) if key == _LARGEST else report.get(key, 0.0) + value
        report |= self.optimizer.clip()
        check_finite(report, [rollout.completions[index].prompt.id for index in order])
        return report

    def _accumulate(self, rollout: Rollout, part: Tensor, share: float) -> dict[str, float]:
        """Add a micro-batch's gradient, weighted by its share of the minibatch's tokens, and return its statistics."""
        ppo = self.ppo
        now = self.policy.analyze([rollout.completions[index] for index in part.tolist()])
        width = now.mask.shape[1]
        old_logprobs, old_values = rollout.before.logprobs[part, :width], rollout.before.values[part, :width]
        advantages, returns = rollout.advantages[part, :width], rollout.returns[part, :width]
        policy = policy_loss(now.logprobs, old_logprobs, advantages, now.mask, ppo.clip_range)
        value = value_loss(now.values, old_values, returns, now.mask, ppo.value_clip_range)
        (share * (policy.loss + ppo.vf_coef * value.loss)).backward()
        return {
            "policy/loss": share * policy.loss.item(),
            "policy/clip_fraction": share * policy.clip_fraction.item(),
            "policy/approx_kl": share * policy.approx_kl.item(),
            _LARGEST: policy.ratio_deviation.item(),
            "value/loss": share * value.loss.item(),
            "value/clip_fraction": share * value.clip_fraction.item(),
        }

    def _learning_rate_factor(self, step: int) -> float:
        """Rise over warmup_steps, then fall linearly towards zero after the last step (openai/baselines ppo2)."""
        if step < self.ppo.warmup_steps:
            return (step + 1) / (self.ppo.warmup_steps + 1)
        return (self.ppo.steps - step) / max(1, self.ppo.steps - self.ppo.warmup_steps)

    def _generator(self, stream: str, number: int) -> torch.Generator:
        return torch.Generator().manual_seed(derived_seed(self.seed, stream, number))


def _texts(completions: Sequence[Completion]) -> tuple[list[str], list[str]]:
    """Return the texts of the prompts and of the completions."""
    return [item.prompt.text for item in completions], [item.text for item in completions]


def _largest(one: float, other: float) -> float:
    """Return the larger number, or NaN where one is NaN: `max` would drop it."""
    return math.nan if math.isnan(one) or math.isnan(other) else max(one, other)
