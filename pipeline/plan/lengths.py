"""How long prompts are: those on disk, else those that `format` counted when it last ran, else all that is allowed."""

import json
from dataclasses import dataclass
from pathlib import Path

from pipeline import paths
from pipeline.config.sections import ModelSection
from pipeline.records import read_json

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
