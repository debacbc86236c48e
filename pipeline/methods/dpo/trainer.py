"""Our own preference trainer, for any policy behind the seam: it analyzes completions and knows no architecture."""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid
from tqdm import tqdm
from transformers import get_linear_schedule_with_warmup

from pipeline.io.errors import NotFiniteError
from pipeline.methods.dpo import DPOSection
from pipeline.methods.loop.checkpoints import Checkpoints
from pipeline.methods.loop.optimizer_state import OptimizerState
from pipeline.policy.types import Completion, Policy, Prompt, Trace
from pipeline.preferences.pairs import Pair


class PreferenceLoss(NamedTuple):
    """losses: [B], one a pair, with gradient. chosen_rewards, rejected_rewards: [B], implicit rewards, without."""

    losses: Tensor
    chosen_rewards: Tensor
    rejected_rewards: Tensor


def preference_loss(
    policy_chosen: Tensor, policy_rejected: Tensor, ref_chosen: Tensor, ref_rejected: Tensor, beta: float
) -> PreferenceLoss:
    """Return -log sigmoid(beta x (chosen log-ratio - rejected log-ratio)) of every pair (Rafailov et al. 2023, eq. 7).

    The tensors are [B]: log-probabilities of whole completions in nats, summed over their tokens, under the policy and
    under the reference. The implicit reward of a completion is beta x log(policy / reference), which the paper has
    after eq. 5 without the term that the two completions of a prompt share. `logsigmoid` neither overflows nor loses
    the loss of a pair that is far on either side.
    """
    chosen, rejected = beta * (policy_chosen - ref_chosen), beta * (policy_rejected - ref_rejected)
    return PreferenceLoss(-logsigmoid(chosen - rejected), chosen.detach(), rejected.detach())


Report = Callable[[int, dict[str, float]], None]


class PairStatistics(NamedTuple):
    """What an update saw of its pairs, each [B]: loss, implicit rewards, and entropy summed over so many tokens."""

    losses: Tensor
    chosen_rewards: Tensor
    rejected_rewards: Tensor
    entropy: Tensor
    tokens: Tensor


def train(
    policy: Policy, pairs: Sequence[Pair], dpo: DPOSection, seed: int, checkpoints: Checkpoints, report: Report
) -> list[dict[str, float]]:
    """Train the policy's adapter in place; return one row of curves an update, `step` from 1.

    The training continues from its newest checkpoint, if there is one, and ends with the very weights of one that was
    never interrupted. Raises NotFiniteError when weights, loss or gradient are no numbers.
    """
    trainer = PreferenceTrainer(policy, pairs, dpo, seed)
    latest = checkpoints.latest()
    curves: list[dict[str, float]] = trainer.state.read(latest.folder)["curves"] if latest else []
    done, updates = len(curves), trainer.updates
    bar = tqdm(islice(trainer.batches(), done, None), desc="dpo", unit="update", initial=done, total=updates)
    for step, indices in enumerate(bar, start=done + 1):
        try:
            row = trainer.update(indices)
        except NotFiniteError as error:
            raise NotFiniteError(f"dpo update {step}: {error}", error.prompt_ids) from None
        report(step, row)
        bar.set_postfix(loss=f"{row['policy/loss']:.3f}", margin=f"{row['objective/reward_margin']:.2f}")
        curves.append({"step": step, **row})
        if checkpoints.is_due(step, updates):
            checkpoints.keep(step, lambda folder: trainer.state.write(folder, {"curves": curves}))
    return curves


class PreferenceTrainer:
    """Optimise a policy for its pairs as TRL's DPOTrainer does a causal model's; the reference is behind the seam too.

    AdamW, a learning rate that rises over the warm-up and falls to 0, both linearly by updates, clipped gradients, no
    dropout, and in every epoch a new order, which the seed alone decides. An update's loss is the mean over its pairs;
    TRL takes the mean of its micro-batches' means, which is another number only where the last one is not full.
    """

    def __init__(self, policy: Policy, pairs: Sequence[Pair], dpo: DPOSection, seed: int) -> None:
        policy.eval()
        self.policy, self.pairs, self.dpo, self.seed = policy, pairs, dpo, seed
        self.updates = dpo.epochs * math.ceil(len(pairs) / self._pairs_an_update)
        self.parameters = policy.trainable()["adapter"]
        optimizer = torch.optim.AdamW(self.parameters, lr=dpo.learning_rate, weight_decay=dpo.weight_decay)
        schedule = get_linear_schedule_with_warmup(optimizer, math.ceil(self.updates * dpo.warmup_ratio), self.updates)
        self.state = OptimizerState(self.parameters, optimizer, schedule, generators={})
        self._chosen = [_completion(pair, pair.chosen_ids) for pair in pairs]
        self._rejected = [_completion(pair, pair.rejected_ids) for pair in pairs]
        with torch.no_grad(), policy.reference():
            logprobs = policy.analyze([*self._chosen, *self._rejected]).logprobs.sum(dim=1)
        self._ref_chosen, self._ref_rejected = logprobs.chunk(2)

    def batches(self) -> Iterator[list[int]]:
        """Yield the indices of every update's pairs, from the first update of the training to its last."""
        generator = torch.Generator().manual_seed(self.seed)
        for _ in range(self.dpo.epochs):
            for indices in torch.randperm(len(self.pairs), generator=generator).split(self._pairs_an_update):
                yield indices.tolist()

    def update(self, indices: Sequence[int]) -> dict[str, float]:
        """Make one update on these pairs and return its statistics.

        Raises NotFiniteError for a loss or gradient that is no number, before the weights are changed, and for weights
        that are none afterwards.
        """
        state = self.state
        state.optimizer.zero_grad(set_to_none=True)
        seen = self._gather(indices)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.dpo.max_grad_norm).item()
        rate: float = state.optimizer.param_groups[0]["lr"]
        row = {"policy/grad_norm": norm, "policy/learning_rate": rate, **_described(seen)}
        self._check(all(map(math.isfinite, row.values())), "a loss or gradient", indices)
        state.optimizer.step()
        state.schedule.step()
        self._check(all(bool(parameter.isfinite().all()) for parameter in self.parameters), "a weight", indices)
        return row

    @property
    def _pairs_an_update(self) -> int:
        return self.dpo.batch_size * self.dpo.gradient_accumulation

    def _gather(self, indices: Sequence[int]) -> PairStatistics:
        """Gather the gradient of an update from micro-batches of like length."""
        order, size = sorted(indices, key=self._length), self.dpo.batch_size
        parts = [self._accumulate(order[start : start + size], len(order)) for start in range(0, len(order), size)]
        return PairStatistics(*(torch.cat(column) for column in zip(*parts, strict=True)))

    def _length(self, index: int) -> int:
        pair = self.pairs[index]
        return len(pair.prompt_ids) + max(len(pair.chosen_ids), len(pair.rejected_ids))

    def _accumulate(self, part: list[int], pairs: int) -> PairStatistics:
        """Add the gradient of a micro-batch to that of an update of so many `pairs`."""
        now = self.policy.analyze([side[index] for side in (self._chosen, self._rejected) for index in part])
        chosen, rejected = now.logprobs.sum(dim=1).chunk(2)
        found = preference_loss(chosen, rejected, self._ref_chosen[part], self._ref_rejected[part], self.dpo.beta)
        (found.losses.sum() / pairs).backward()
        entropy, tokens = (item.detach().sum(dim=1).view(2, -1).sum(dim=0) for item in (now.entropy, now.mask))
        return PairStatistics(found.losses.detach(), found.chosen_rewards, found.rejected_rewards, entropy, tokens)

    def _check(self, finite: bool, what: str, indices: Sequence[int]) -> None:
        if not finite:
            ids = list(dict.fromkeys(self.pairs[index].prompt_id for index in indices))
            remedy = "lower methods.dpo.learning_rate or use model.dtype float32"
            raise NotFiniteError(f"{what} is not finite (prompts {', '.join(ids)}); {remedy}", ids)


def _described(seen: PairStatistics) -> dict[str, float]:
    """Return the statistics of an update under the names that they have for TRL's trainer, see `causal`."""
    margins = seen.chosen_rewards - seen.rejected_rewards
    return {
        "policy/loss": seen.losses.mean().item(),
        "objective/chosen_reward": seen.chosen_rewards.mean().item(),
        "objective/rejected_reward": seen.rejected_rewards.mean().item(),
        "objective/reward_margin": margins.mean().item(),
        "objective/reward_accuracy": (margins > 0).float().mean().item(),
        "objective/entropy": (seen.entropy.sum() / seen.tokens.sum()).item(),
    }


def _completion(pair: Pair, token_ids: Sequence[int]) -> Completion:
    """Return one side of a pair for `analyze`, which reads nothing but token ids."""
    prompt = Prompt(pair.prompt_id, pair.prompt, tuple(pair.prompt_ids))
    return Completion(prompt, 0, tuple(token_ids), finished=False, text="", trace=Trace((), (), ()))
