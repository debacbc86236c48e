"""Supervised fine-tuning on given completions, for any policy: chosen ones, or people's demonstrations."""

from collections.abc import Sequence

from pipeline.config.sections import SupervisedSection
from pipeline.methods.loop.epochs import EpochTrainer
from pipeline.methods.loop.loop import run
from pipeline.methods.training import Trained, Training
from pipeline.policy.types import Completion


def train_on(training: Training, section: SupervisedSection, completions: Sequence[Completion]) -> Trained:
    """Train the model's trainable parameters in place, on the completions' own token ids."""
    training.model.train()  # with the dropout of `lora`, and of a model that has its own
    curves = run(training, SFTTrainer(training.policy, completions, section, training.seed))
    training.model.eval()
    return Trained(curves, len(completions))


class SFTTrainer(EpochTrainer[Completion]):
    """Minimise the negative log-likelihood of the completions' tokens: a mean over those of an update, in nats."""

    def completions(self, example: Completion) -> Sequence[Completion]:
        """Return the example."""
        return [example]

    def accumulate(self, part: Sequence[int], update: Sequence[int]) -> dict[str, float]:
        """Add the gradient of a micro-batch, weighted by its share of the update's tokens."""
        tokens = sum(len(self.examples[index].token_ids) for index in update)
        now = self.policy.analyze([self.examples[index] for index in part])
        loss = -now.logprobs.sum() / tokens
        loss.backward()
        return {"policy/loss": loss.item(), "objective/entropy": now.entropy.sum().item() / tokens}
