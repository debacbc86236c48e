"""The loss of direct preference optimisation, as a pure function of log-probabilities."""

from typing import NamedTuple

from torch import Tensor
from torch.nn.functional import logsigmoid


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
