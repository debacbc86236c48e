"""Direct preference optimisation on chosen and rejected completions, for any policy."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid
from tqdm import trange

from pipeline.methods.dpo import DPOSection
from pipeline.methods.loop.epochs import EpochTrainer
from pipeline.methods.loop.loop import run
from pipeline.methods.training import Trained, Training
from pipeline.policy.types import Completion, Policy
from pipeline.preferences.pairs import Pair

_READ_PAIRS = 64  # by the reference between two moves of the progress bar


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


def train(training: Training, section: DPOSection) -> Trained:
    """Train the adapter in place; the reference is the same model with the adapter off, or the reference's on."""
    pairs = training.pairs()
    training.model.eval()  # dropout would make the log-ratio of equal policies differ from 0
    trainer = DPOTrainer(training.policy, pairs, section, training.seed)
    return Trained(run(training, trainer), len(pairs))


class DPOTrainer(EpochTrainer[Pair]):
    """Minimise the mean preference loss over the pairs of an update."""

    section: DPOSection
    shown: Mapping[str, str] = {"policy/loss": "loss", "objective/reward_margin": "margin"}

    def __init__(self, policy: Policy, pairs: Sequence[Pair], section: DPOSection, seed: int) -> None:
        super().__init__(policy, pairs, section, seed)
        starts = trange(0, len(pairs), _READ_PAIRS, desc="reference", unit="batch")
        self._reference = torch.cat([self._read(pairs[start : start + _READ_PAIRS]) for start in starts])

    def completions(self, example: Pair) -> Sequence[Completion]:
        """Return the chosen and the rejected completion."""
        return example.completions

    @torch.no_grad()
    def _read(self, pairs: Sequence[Pair]) -> Tensor:
        """Return the reference's log-probabilities [B, 2] of chosen and rejected completions."""
        with self.policy.acting_as("reference"):
            logprobs = self.policy.analyze([item for pair in pairs for item in pair.completions]).logprobs
        return logprobs.sum(dim=1).view(-1, 2)

    def accumulate(self, part: Sequence[int], update: Sequence[int]) -> dict[str, float]:
        """Add the gradient of a micro-batch, weighted by its share of the update's pairs."""
        now = self.policy.analyze([item for index in part for item in self.examples[index].completions])
        chosen, rejected = now.logprobs.sum(dim=1).view(-1, 2).unbind(dim=1)
        ref_chosen, ref_rejected = self._reference[list(part)].unbind(dim=1)
        found = preference_loss(chosen, rejected, ref_chosen, ref_rejected, self.section.beta)
        loss = found.losses.sum() / len(update)
        loss.backward()
        margins = found.chosen_rewards - found.rejected_rewards
        tokens = sum(len(item.token_ids) for index in update for item in self.examples[index].completions)
        return {
            "policy/loss": loss.item(),
            "objective/chosen_reward": found.chosen_rewards.sum().item() / len(update),
            "objective/rejected_reward": found.rejected_rewards.sum().item() / len(update),
            "objective/reward_margin": margins.sum().item() / len(update),
            "objective/reward_accuracy": (margins > 0).sum().item() / len(update),
            "objective/entropy": now.entropy.sum().item() / tokens,
        }
