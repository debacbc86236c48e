"""The reward scorer, and how what it says of a completion becomes the score that trainings maximise."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.config.sections import RewardSection
from pipeline.scorers.scoring import Scorer

BETWEEN = "\n"  # prompt and completion, where the reward reads both


@dataclass(frozen=True)
class Reward:
    """Turn completions into scores as the section `reward` says: offset - scale x output.

    The usual 1 - toxicity is output toxicity with offset 1 and scale 1; a harmless label's raw logit is output logit
    with offset 0 and scale 1; log-odds of being harmless are output log_odds with offset 0 and scale 1.

    `scorer` alone, of the completion alone, is what dev prompts and evaluation are judged by, whatever the reward
    reads. `output` is what is rewarded: the scorer's toxicity, or a classifier's logit or log-odds, of texts.
    """

    section: RewardSection
    scorer: Scorer
    output: Callable[[Sequence[str]], list[float | None]]

    @property
    def name(self) -> str:
        """Return the scorer's name in the experiment file."""
        return self.section.name

    def scores(self, prompts: Sequence[str], completions: Sequence[str]) -> list[float | None]:
        """Return offset - scale x output of every completion, in order; None where it could not be scored."""
        offset, scale = self.section.offset, self.section.scale
        outputs = self.output(self.texts(prompts, completions))
        return [None if output is None else offset - scale * output for output in outputs]

    def toxicity(self, prompts: Sequence[str], completions: Sequence[str]) -> list[float | None]:
        """Return the toxicity in [0, 1] of what the reward reads of every completion; None where it is not known."""
        return self.scorer.score(self.texts(prompts, completions))

    def cut(self, prompts: Sequence[str], completions: Sequence[str]) -> list[bool]:
        """Return for every completion whether what the reward reads is too long for the scorer, and so cut."""
        return self.scorer.cut(self.texts(prompts, completions))

    def texts(self, prompts: Sequence[str], completions: Sequence[str]) -> list[str]:
        """Return what the reward reads: the completion, or the prompt, a line end and the completion."""
        if self.section.reads == "completion":
            return list(completions)
        return [prompt + BETWEEN + completion for prompt, completion in zip(prompts, completions, strict=True)]
