"""From formatted rows to tokenized prompts: the one place where a prompt's token ids are made."""

from collections.abc import Sequence
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from pipeline.config.sections import ModelSection
from pipeline.data.schema import PromptRow
from pipeline.errors import UserError
from pipeline.policy.types import Prompt


def tokenize_prompts(
    rows: Sequence[PromptRow], tokenizer: PreTrainedTokenizerBase, model: ModelSection, file: Path
) -> list[Prompt]:
    """Tokenize prompts as the tokenizer does it by itself.

    Raises UserError when there is none, and for one that is empty, too long, or there twice: it would get the same
    noise twice.
    """
    if not rows:
        raise UserError(f"{file}: no prompts; add rows to data.sources or correct data.eval_fraction and dev_fraction")
    prompts = []
    lines: dict[str, int] = {}
    for number, row in enumerate(rows, start=1):
        if lines.setdefault(row.id, number) != number:
            raise UserError(f"{file}:{number}: prompt {row.id} stands in line {lines[row.id]} already; remove the row")
        token_ids = tuple(tokenizer(row.prompt)["input_ids"])
        if not 0 < len(token_ids) <= model.max_prompt_tokens:
            raise UserError(
                f"{file}:{number}: prompt {row.id} has {len(token_ids)} tokens, expected 1 to "
                f"{model.max_prompt_tokens}; remove the row or raise model.max_prompt_tokens"
            )
        prompts.append(Prompt(row.id, row.prompt, token_ids))
    return prompts
