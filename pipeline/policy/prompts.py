"""From formatted rows to tokenized prompts: the one place where a prompt's token ids are made."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from pipeline.config.sections import ModelSection
from pipeline.data.schema import PromptRow
from pipeline.io.errors import UserError, shortened
from pipeline.policy.making import reads_on
from pipeline.policy.types import Prompt

_PLAIN = "write model.prompt_format plain, or choose another model.source"
# Some templates tell the model the date, which would make other token ids of a prompt every day. Those of Llama 3 take
# it from a variable; this is the day that they fall back on.
_DATE = "26 Jul 2024"


def tokenize_prompts(
    rows: Sequence[PromptRow], tokenizer: PreTrainedTokenizerBase, model: ModelSection, file: Path
) -> list[Prompt]:
    """Tokenize prompts in `model.prompt_format`; a prompt's text stays what the data set says.

    Raises UserError when there is none, when the format is not this tokenizer's, and naming the row of a prompt that
    `prompt_ids` refuses, that is empty, too long, or there twice: it would get the same noise twice.
    """
    if not rows:
        raise UserError(f"{file}: no prompts; add rows to data.sources or correct data.eval_fraction and dev_fraction")
    _check_format(tokenizer, model.prompt_format)
    prompts = []
    lines: dict[str, int] = {}
    for number, row in enumerate(rows, start=1):
        if lines.setdefault(row.id, number) != number:
            raise UserError(f"{file}:{number}: prompt {row.id} stands in line {lines[row.id]} already; remove the row")
        try:
            token_ids = prompt_ids(row.prompt, tokenizer, model.prompt_format)
        except UserError as error:
            raise UserError(f"{file}:{number}: prompt {row.id}: {error}") from None
        if not 0 < len(token_ids) <= model.max_prompt_tokens:
            raise UserError(
                f"{file}:{number}: prompt {row.id} has {len(token_ids)} tokens, expected 1 to "
                f"{model.max_prompt_tokens}; remove the row or raise model.max_prompt_tokens"
            )
        prompts.append(Prompt(row.id, row.prompt, token_ids))
    return prompts


def prompt_ids(text: str, tokenizer: PreTrainedTokenizerBase, prompt_format: str) -> tuple[int, ...]:
    """Return the token ids that a completion of `text` continues.

    `plain`: as the tokenizer does it by itself. `chat_template`: the model's own template around one message of the
    user, up to where the model's turn begins; the special tokens are the template's alone, so none is doubled. Raises
    UserError when the tokenizer has no template, when the template refuses the text, and when the text holds that of a
    special token, with which it could end its own turn and begin another.
    """
    if prompt_format == "plain":
        return tuple(tokenizer(text)["input_ids"])
    _check_format(tokenizer, prompt_format)
    if (token := special_text(text, tokenizer)) is not None:
        raise UserError(
            f"expected no text of a special token, which could end the user's turn, got '{token}'; remove the row"
        )
    return tuple(_rendered(text, tokenizer)["input_ids"])


def answer_ids(text: str, prompt: Prompt, tokenizer: PreTrainedTokenizerBase, model: ModelSection) -> list[int]:
    """Return the token ids of an answer that somebody gave to a prompt, with EOS at the end of its turn.

    Within a chat they are those that the tokenizer makes of it in its place: alone, a tokenizer as Llama's puts a blank
    before it, which no completion would have. Everywhere else, and where its beginning would be one token with the
    prompt's end, it is read alone.
    """
    ids = tuple(tokenizer(text, add_special_tokens=False)["input_ids"])
    if model.prompt_format == "chat_template" and reads_on(model.architecture):
        begun = _rendered(prompt.text, tokenizer, tokenize=False)
        whole = tuple(tokenizer(begun + text, add_special_tokens=False)["input_ids"])
        length = len(prompt.token_ids)
        ids = whole[length:] if whole[:length] == prompt.token_ids else ids
    return [*ids, int(tokenizer.eos_token_id)]


def special_text(text: str, tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Return the first special token, as text, that stands in `text` and would be read as that token; None: none."""
    added = (str(token) for token in tokenizer.added_tokens_decoder.values() if token.special)
    return next((token for token in sorted({*tokenizer.all_special_tokens, *added}) if token in text), None)


def _rendered(text: str, tokenizer: PreTrainedTokenizerBase, tokenize: bool = True) -> Any:
    """Return the text, or what the tokenizer makes of it, of a chat up to where the model's first turn begins."""
    try:
        return tokenizer.apply_chat_template(
            [{"role": "user", "content": text}],
            tokenize=tokenize,
            add_generation_prompt=True,
            return_dict=tokenize,  # the default of Transformers 5, which is not that of 4
            date_string=_DATE,
        )
    except Exception as error:  # a template may raise anything
        raise UserError(
            f"the model's chat template cannot be rendered ({type(error).__name__}: {shortened(str(error))}); {_PLAIN}"
        ) from error


def _check_format(tokenizer: PreTrainedTokenizerBase, prompt_format: str) -> None:
    if prompt_format == "plain":
        return
    template = tokenizer.chat_template
    if not template:
        raise UserError(f"model.prompt_format: expected plain, since the tokenizer has no chat template; {_PLAIN}")
    if "strftime_now" in str(template) and "date_string" not in str(template):
        raise UserError(
            "model.prompt_format: the model's chat template tells the day's date, so that prompts would be others "
            f"tomorrow; {_PLAIN}"
        )
