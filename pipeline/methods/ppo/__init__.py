"""Proximal policy optimisation (PPO) against the reward scorer; blind to architecture, transformers and MLflow."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from pipeline.config.declarations import Method
from pipeline.config.fields import Count, Fraction, LearningRate, NonNegativeFloat, PositiveFloat, Section

if TYPE_CHECKING:
    from pipeline.methods.training import Trained, Training


class PPOSection(Section):
    """Proximal policy optimisation (Schulman et al. 2017) with a per-token KL penalty (Ziegler et al. 2019)."""

    steps: Count
    prompts_per_step: Count
    samples_per_prompt: Count
    max_new_tokens: Count
    epochs: Count
    minibatch_size: Count
    micro_batch_size: Count
    learning_rate: LearningRate
    value_learning_rate: LearningRate
    warmup_steps: Annotated[int, Field(ge=0, le=10_000_000)]
    max_grad_norm: PositiveFloat
    gamma: Fraction
    gae_lambda: Fraction
    clip_range: Annotated[float, Field(gt=0, lt=1)]
    value_clip_range: PositiveFloat | None
    vf_coef: NonNegativeFloat
    kl_coef: NonNegativeFloat
    kl_target: PositiveFloat | None
    kl_horizon: Count
    max_approx_kl: PositiveFloat | None
    score_scaling: Literal["none", "scale", "normalize"]
    score_clip: PositiveFloat | None
    missing_eos_penalty: NonNegativeFloat
    whiten_rewards: bool
    whiten_advantages: bool


def train(training: "Training", section: PPOSection) -> "Trained":
    """Train the adapter on rollouts of the train prompts."""
    from pipeline.methods.ppo.trainer import train as train_on_rollouts

    return train_on_rollouts(training, section)


def _rules(file: Any) -> Iterator[str]:
    ppo: PPOSection = file.methods["ppo"]
    rollout = ppo.prompts_per_step * ppo.samples_per_prompt
    if rollout % ppo.minibatch_size:
        expected = f"expected a divisor of the rollout ({rollout} completions), got {ppo.minibatch_size}"
        yield f"methods.ppo.minibatch_size: {expected}; correct one of them"


READ_ROWS = 32  # completions that the policy reads at once without gradient


def _memory(sizes: Any, section: PPOSection) -> list[int]:
    longest, rows, new = sizes.prompts("train").longest, section.micro_batch_size, section.max_new_tokens
    rollout = section.prompts_per_step * section.samples_per_prompt
    return [
        sizes.sampling(rollout, longest, new, sizes.file.lora),
        sizes.reading(min(rollout, READ_ROWS) * new),
        sizes.learning(rows * (longest + new), rows * new),
    ]


def _tokens(work: Any, section: PPOSection) -> tuple[float, float, float]:
    drawn = section.steps * section.prompts_per_step * section.samples_per_prompt
    whole = drawn * (work.prompt_tokens + section.max_new_tokens)
    return whole, whole * section.epochs, drawn * section.max_new_tokens


METHOD = Method(
    name="ppo",
    title="Proximal policy optimization (PPO) against the reward scorer, with LoRA",
    section=PPOSection,
    inputs="prompts",
    train=train,
    curve="objective/score",
    colour="#d55e00",
    shape="triangle-up",
    memory=_memory,
    tokens=_tokens,
    sizes=("micro_batch_size",),
    rules=_rules,
)
