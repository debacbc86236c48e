"""Rough hours, from what was measured: SmolLM2-135M in float32 on two cores of a cloud machine (x86-64, AVX-512).

Time is proportional to the model's parameters (2 operations a parameter and token, Kaplan et al. 2020, 2.1), so that
the figures hold for models whose arithmetic outweighs the rest. No GPU was measured: there nothing is said.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from pipeline.config.sections import ExperimentFile, ModelSection, OnPolicyPreferences
from pipeline.io import paths
from pipeline.io.records import read_json
from pipeline.methods import METHODS

# Measured with SmolLM2's tokenizer: 4.1 characters a token on average over the prompts of smollm2-rtp and 4.7 over
# those of smollm2-chat; the longest prompts have one for 3.0 and 4.4. Its chat template adds 32 tokens, a system
# message among them.
MEAN_CHARACTERS, FEWEST_CHARACTERS = 4.1, 3.5
# The same prompts by their words: 1.25 to 1.36 tokens a word on average; the longest prompt of a split has up to 1.57
# times as many tokens as the most words that one there has.
MEAN_TOKENS, MOST_TOKENS = 1.3, 1.6
TEMPLATE_TOKENS = {"plain": 0, "chat_template": 32}
LONGEST_FILE = 64 * 2**20  # bytes; a longer file is not read for an estimate


@dataclass(frozen=True)
class Lengths:
    """Prompts of a split: how many there are (None where nobody knows yet), and their mean and largest tokens."""

    count: int | None
    mean: float
    longest: int


def lengths(experiment: str, split: str, model: ModelSection) -> Lengths:
    """Estimate the prompts of a split from characters or words; without either they are as long as they may be."""
    limit, template = model.max_prompt_tokens, TEMPLATE_TOKENS[model.prompt_format]
    found = _on_disk(paths.formatted(experiment, split)) or _counted(paths.metrics(experiment, "format"), split)
    if found is None:
        return Lengths(None, limit / 2, limit)
    return Lengths(found.count, min(found.mean + template, limit), min(found.longest + template, limit))


def _on_disk(path: Path) -> Lengths | None:
    if not path.is_file() or not 0 < path.stat().st_size < LONGEST_FILE:
        return None
    with path.open(encoding="utf-8") as lines:
        characters = [len(json.loads(line)["prompt"]) for line in lines if line.strip()]
    if not characters:
        return None
    mean = sum(characters) / len(characters) / MEAN_CHARACTERS
    return Lengths(len(characters), mean, round(max(characters) / FEWEST_CHARACTERS))


def _counted(path: Path, split: str) -> Lengths | None:
    """Return what metrics/<experiment>/format.json says, which is in Git and so there right after a clone."""
    if not path.is_file():
        return None
    counted = read_json(path).get("splits", {}).get(split)
    if counted is None:
        return None
    return Lengths(counted["prompts"], counted["words_mean"] * MEAN_TOKENS, round(counted["words_max"] * MOST_TOKENS))


MEASURED_PARAMETERS = 134_515_008
# Tokens a second: read without gradient, learnt from (forward and backward pass), drawn one after the other.
READ, LEARNT, DRAWN = 720, 245, 230


def hours(stage: str, experiment: str, file: ExperimentFile, parameters: int) -> float | None:
    """Return about how many hours a stage takes on two cores of a CPU; None where nobody knows how much there is to do.

    That is so before `format` has run, but for trainings on prompts, whose number of completions is a parameter.
    """
    tokens = _tokens(stage, experiment, file)
    if tokens is None:
        return None
    seconds = tokens[0] / READ + tokens[1] / LEARNT + tokens[2] / DRAWN
    return seconds * parameters / MEASURED_PARAMETERS / 3600


@dataclass(frozen=True)
class Work:
    """What a training has to do: tokens of a prompt and of a completion on average, and how many pairs at most.

    `pairs` is None before `format` has run; there can be no more than prompts.
    """

    pairs: int | None
    prompt_tokens: float
    completion_tokens: float


def _tokens(stage: str, experiment: str, file: ExperimentFile) -> tuple[float, float, float] | None:
    """Return tokens read, learnt from and drawn."""
    split = {"reference": "dev", "complete": "eval"}.get(stage, "train")
    prompts, preferences = lengths(experiment, split, file.model), file.preferences
    if isinstance(preferences, OnPolicyPreferences):
        new = float(preferences.max_new_tokens)
    else:
        new = preferences.max_completion_tokens / 2  # nobody has read the answers yet
    method = METHODS.get(stage.removeprefix("train_"))
    if method is not None:
        return method.tokens(Work(prompts.count, prompts.mean, new), file.methods[method.name])
    if prompts.count is None:
        return None
    if stage == "complete":
        complete = file.complete
        drawn = prompts.count * complete.samples_per_prompt
        analyzed = 2 * prompts.count * complete.analyzed_samples * (prompts.mean + complete.max_new_tokens)
        return analyzed, 0, drawn * complete.max_new_tokens
    if stage == "preferences" and isinstance(preferences, OnPolicyPreferences):
        return prompts.count * prompts.mean, 0, prompts.count * preferences.samples_per_prompt * new
    return None  # of pairs of a data set the time is the scorer's
