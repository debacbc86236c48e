"""From demonstrations to what is learnt from them: token ids that end where a demonstration's text ends."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from pipeline.config.sections import ModelSection
from pipeline.data.schema import PromptRow
from pipeline.io.errors import UserError
from pipeline.policy.prompts import answer_ids
from pipeline.policy.types import Completion, Prompt

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Demonstrated:
    """The demonstrations as completions, and how many prompts gave none: theirs is too long, or they have none."""

    completions: list[Completion]
    too_long: int
    without: int


def tokenize_demonstrations(
    rows: Sequence[PromptRow],
    prompts: Sequence[Prompt],
    tokenizer: PreTrainedTokenizerBase,
    model: ModelSection,
    longest: int,
    context: int | None,
    file: Path,
) -> Demonstrated:
    """Return each prompt with its first demonstration and EOS, whether or not the tokenizer adds one by itself.

    A demonstration of more than `longest` tokens with its EOS, or one that does not fit into the `context` with its
    prompt, is left out and never cut, with one line of log for all of them. Raises UserError when none is left.
    """
    completions, too_long = [], 0
    for row, prompt in zip(rows, prompts, strict=True):
        if not row.demonstrations:
            continue
        target = answer_ids(row.demonstrations[0], prompt, tokenizer, model)
        if len(target) > longest or (context is not None and len(prompt.token_ids) + len(target) > context):
            too_long += 1
        else:
            completions.append(Completion.given(prompt, target))
    if too_long:
        logger.warning(
            "%s: %s of %s demonstrations have more than %s tokens (reference.max_demonstration_tokens) or do not fit "
            "into the model's context with their prompt; left out",
            file,
            too_long,
            too_long + len(completions),
            longest,
        )
    if not completions:
        raise UserError(
            f"{file}: no demonstration to train the reference on ({too_long} too long, {len(rows) - too_long} prompts "
            "without); correct data.sources, raise reference.max_demonstration_tokens, or use reference.kind base"
        )
    return Demonstrated(completions, too_long, len(rows) - too_long - len(completions))
