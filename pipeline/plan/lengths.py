"""How long prompts are: those on disk where `format` has run, else as long as the experiment's file allows."""

import json
from dataclasses import dataclass

from pipeline import paths
from pipeline.config.sections import ModelSection

# Measured with SmolLM2's tokenizer: 4.1 characters a token on average over the prompts of smollm2-rtp and 4.7 over
# those of smollm2-chat; the longest prompts have one for 3.0 and 4.4. Its chat template adds 32 tokens, a system
# message among them.
MEAN_CHARACTERS, FEWEST_CHARACTERS = 4.1, 3.5
TEMPLATE_TOKENS = {"plain": 0, "chat_template": 32}
LONGEST_FILE = 64 * 2**20  # bytes; a longer file is not read for an estimate


@dataclass(frozen=True)
class Lengths:
    """Prompts of a split: how many there are (None where nobody knows yet), and their mean and largest tokens."""

    count: int | None
    mean: float
    longest: int


def lengths(experiment: str, split: str, model: ModelSection) -> Lengths:
    """Estimate the prompts of a split from their characters; without them they are as long as they may be."""
    limit = model.max_prompt_tokens
    path = paths.formatted(experiment, split)
    if not path.is_file() or not 0 < path.stat().st_size < LONGEST_FILE:
        return Lengths(None, limit / 2, limit)
    with path.open(encoding="utf-8") as lines:
        characters = [len(json.loads(line)["prompt"]) for line in lines if line.strip()]
    if not characters:
        return Lengths(0, limit / 2, limit)
    template = TEMPLATE_TOKENS[model.prompt_format]
    mean = sum(characters) / len(characters) / MEAN_CHARACTERS + template
    longest = round(max(characters) / FEWEST_CHARACTERS) + template
    return Lengths(len(characters), min(mean, limit), min(longest, limit))
