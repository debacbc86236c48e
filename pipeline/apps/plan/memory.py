"""How much memory a stage needs at its peak, from the shape of the model and the sizes in the experiment's file.

A stage goes through phases: sampling, reading, updating. Each needs weights and what stands beside them. What a phase
gives back the next can use again, but not all of it: on a CPU freed memory is kept in pieces (io/process.py), so half
of the smaller phases counts beside the largest. The constants were fitted to peaks that were measured on smollm2-rtp
(README, Memory).
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

from pipeline.apps.plan.shape import Shape
from pipeline.apps.plan.work import Lengths, lengths
from pipeline.config.declarations import Method
from pipeline.config.sections import (
    AdapterReference,
    ExperimentFile,
    FullReference,
    LoraSection,
    OnPolicyPreferences,
    SupervisedSection,
)
from pipeline.methods import METHODS
from pipeline.scorers import SCORERS


def scorer_bytes(scorer: Any) -> int:
    """Return what one scorer takes, with those that it is made of."""
    kind = SCORERS[scorer.kind]
    return kind.bytes(scorer) + all_bytes(kind.members(scorer).values())


def all_bytes(scorers: Iterable[Any]) -> int:
    """Return what several scorers take together."""
    return sum(map(scorer_bytes, scorers))


LIBRARIES = 520 * 10**6  # interpreter and libraries of a stage that loads the policy, with tracking on; measured
CUDA_CONTEXT = 600 * 10**6  # kernels on the card; NVIDIA's order of magnitude, not measured here
KEPT_IN_PIECES = 0.5  # share of the smaller phases' memory that the largest cannot use again
# Tables of a number for every token of the vocabulary that stand at once, in float32: what is drawn from, what is read,
# what the loss keeps and its gradient.
DRAWN, READ, LEARNT = 4, 4, 5
READ_ROWS = 32  # completions that the policy reads at once without gradient
PROBED_TOKENS = 40  # of an answer, on average over a batch of the longest
STATES = 5  # of a number that is trained: itself, its gradient, two moments of Adam, and the last that was good
BYTES = 4  # of a number that is trained, and of logits


class Peak(NamedTuple):
    """The most bytes that a stage needs at once: of the machine's memory and of the GPU's (0 without one)."""

    host: int
    device: int

    @property
    def total(self) -> int:
        """Return both together, as a machine without a GPU needs them."""
        return self.host + self.device


def peak(stage: str, experiment: str, file: ExperimentFile, shape: Shape, on_cuda: bool, policy: str = "") -> Peak:
    """Estimate the peak of a stage that loads the policy; KeyError for one that does not."""
    size = _Sizes(experiment, file, shape, policy)
    beside, phases = _STAGES[stage](size)
    largest = max(phases)
    tensors = shape.weights + beside + largest + KEPT_IN_PIECES * (sum(phases) - largest)
    if on_cuda:
        return Peak(LIBRARIES + shape.weights, int(tensors) + CUDA_CONTEXT)
    return Peak(int(LIBRARIES + tensors), 0)


def judging_peak(stage: str, file: ExperimentFile, fluency_bytes: int) -> int:
    """Estimate the peak of `judge` or `score`, which load every judge and no policy."""
    judged = [file.reward.scorer, *file.scorers.values()]
    return LIBRARIES + all_bytes(judged) + (fluency_bytes if stage == "score" else 0)


class _Sizes:
    """The sizes that an experiment's file says of one model."""

    def __init__(self, experiment: str, file: ExperimentFile, shape: Shape, policy: str) -> None:
        self.file, self.shape, self.experiment, self.policy = file, shape, experiment, policy

    def prompts(self, split: str) -> Lengths:
        return lengths(self.experiment, split, self.file.model)

    @property
    def completion_tokens(self) -> int:
        """Return the longest completions that pairs have."""
        preferences = self.file.preferences
        if isinstance(preferences, OnPolicyPreferences):
            return preferences.max_new_tokens
        return preferences.max_completion_tokens

    @property
    def adapters(self) -> int:
        """Return the bytes of the adapters of the reference and of the policy, without what learns."""
        kinds = self.file.reference.kind == "adapter", self.policy != "reference"
        return sum(kinds) * self.shape.trainable(self.file.lora) * BYTES

    def sampling(self, rows: int, prompt: int, new: int, lora: LoraSection | None) -> int:
        """Return the bytes of keys and values, of what is drawn from, and of weights with the adapter folded in."""
        cache = rows * (prompt + new) * self.shape.cached * self.shape.itemsize
        merged = self.shape.merged(lora) if lora else 0
        return cache + rows * self.shape.vocabulary * BYTES * DRAWN + merged

    def reading(self, tokens: int) -> int:
        return tokens * self.shape.vocabulary * BYTES * READ

    def learning(self, tokens: int, targets: int) -> int:
        """Return what the backward pass of so many tokens keeps, with a loss on `targets` of them."""
        recomputes = self.file.model.gradient_checkpointing
        return tokens * self.shape.kept(recomputes) + targets * self.shape.vocabulary * BYTES * LEARNT

    def dev(self, lora: LoraSection | None) -> int:
        dev = self.file.dev
        return self.sampling(dev.batch_size, self.prompts("dev").longest, dev.max_new_tokens, lora)

    def supervised(self, section: SupervisedSection, new: int) -> int:
        rows = section.batch_size
        return self.learning(rows * (self.prompts("train").longest + new), rows * new)

    @property
    def trained(self) -> int:
        return self.shape.trainable(self.file.lora) * BYTES * STATES


Needs = tuple[int, Sequence[int]]  # what stands beside the weights all the time, and the phases


def _reference(size: _Sizes) -> Needs:
    reference, reward = size.file.reference, scorer_bytes(size.file.reward.scorer)
    if isinstance(reference, FullReference):
        states = size.shape.parameters * BYTES * (STATES - 1)
        return states + reward, [size.supervised(reference, reference.max_demonstration_tokens), size.dev(None)]
    if isinstance(reference, AdapterReference):
        phases = [size.supervised(reference, reference.max_demonstration_tokens), size.dev(reference.lora)]
        return size.trained + reward, phases
    return reward, [size.dev(None)]


def _preferences(size: _Sizes) -> Needs:
    preferences, reward = size.file.preferences, scorer_bytes(size.file.reward.scorer)
    if not isinstance(preferences, OnPolicyPreferences):
        return reward, [0]  # pairs are read, nothing is sampled
    lora = size.file.lora if size.file.reference.kind == "adapter" else None
    longest = size.prompts("train").longest
    return reward, [size.sampling(preferences.batch_size, longest, preferences.max_new_tokens, lora)]


def _train(method: Method, size: _Sizes) -> Needs:
    phases = [*method.memory(size, size.file.methods[method.name]), size.dev(size.file.lora)]
    return size.trained + size.adapters + scorer_bytes(size.file.reward.scorer), phases


def _complete(size: _Sizes) -> Needs:
    complete, longest = size.file.complete, size.prompts("eval").longest
    lora = size.file.lora if size.policy != "reference" or size.file.reference.kind == "adapter" else None
    rows = min(complete.batch_size, (size.prompts("eval").count or 10**9) * complete.samples_per_prompt)
    phases = [size.sampling(rows, longest, complete.max_new_tokens, lora)]
    return size.adapters, [*phases, size.reading(READ_ROWS * complete.max_new_tokens)]


def _probe(size: _Sizes) -> Needs:
    return size.adapters, [size.reading(size.file.probe.batch_size * PROBED_TOKENS)]


_STAGES: dict[str, Callable[[_Sizes], Needs]] = {
    "reference": _reference,
    "preferences": _preferences,
    **{f"train_{name}": partial(_train, method) for name, method in METHODS.items()},
    "complete": _complete,
    "probe": _probe,
}
STAGES = tuple(_STAGES)
