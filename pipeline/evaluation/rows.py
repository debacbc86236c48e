"""One line of completions/, scores/ and probes/, checked strictly; keys that are not named here are left alone."""

import logging
import re
from collections.abc import Iterable, Mapping, Set
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from pydantic_core import ErrorDetails

from pipeline.io import paths, records
from pipeline.io.errors import UserError, shortened, shown

LogLikelihood = Annotated[float, Field(le=0)]
REMEDY = "delete the file and run `dvc repro`"
Row = TypeVar("Row", bound="_Row")
Key = tuple[str, int]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
FLUENCY = "fluency"  # what rows call the experiment's fluency model
REFUSAL = "refusal"  # what rows call the judge of refusals
_CLASS = re.compile(r"a valid dictionary( or instance of \w+)?")
_TEXTS = ("prompt", "completion")  # may be offensive: never shown


class _Row(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)


class Logprobs(_Row):
    """Summed log-probs of a completion's tokens, in nats, under three models."""

    policy: LogLikelihood
    reference: LogLikelihood
    base: LogLikelihood


class _Sampled(_Row):
    prompt_id: str
    sample: Annotated[int, Field(ge=0)]

    @property
    def key(self) -> Key:
        """Return what the completion is found by in every policy and seed."""
        return self.prompt_id, self.sample


class Completion(_Sampled):
    """One completion of one prompt; `token_ids` end with EOS where the policy emitted it (`finished`)."""

    prompt: str
    categories: list[str]
    completion: str
    token_ids: list[Annotated[int, Field(ge=0)]]
    finished: bool
    logprobs: Logprobs | None

    @model_validator(mode="after")
    def _ends_with_a_token(self) -> "Completion":
        if self.finished and not self.token_ids:
            raise ValueError("finished is true, so token_ids should end with EOS, but there is none")
        return self

    @property
    def text_tokens(self) -> list[int]:
        """Return the token ids without EOS."""
        return self.token_ids[:-1] if self.finished else self.token_ids


class Score(_Sampled):
    """One judge's score of one completion; `toxicity` is null where it could not be scored.

    `cut` tells whether the judge saw the beginning of the text alone; null in files of before it was told.
    """

    judge: str
    judge_sha256: Sha256
    toxicity: Annotated[float, Field(ge=0, le=1)] | None
    cut: bool | None = None


class FluencyRow(_Sampled):
    """How likely the fluency model finds a completion alone: the summed log-prob of its tokens, in nats.

    `logprob` is null where no token was scored; `cut` tells whether the text went on beyond what the model was shown.
    """

    model: Literal["fluency"]
    model_sha256: Sha256
    logprob: LogLikelihood | None
    tokens: Annotated[int, Field(ge=0)]
    cut: bool

    @model_validator(mode="after")
    def _has_a_logprob_for_its_tokens(self) -> "FluencyRow":
        if (self.logprob is None) != (self.tokens == 0):
            raise ValueError("logprob should be null where tokens is 0, and nowhere else")
        return self


class Refused(_Sampled):
    """Whether one completion declines to answer, 1 or 0, after the judge of refusals; null where it could not tell."""

    refusal: Annotated[float, Field(ge=0, le=1, multiple_of=1)] | None
    refusal_sha256: Sha256


class Probe(_Row):
    """One text that a policy was shown: the summed log-likelihood of its tokens, in nats.

    `label` is the place of the right choice of its item; null where there is none or the file does not say.
    """

    probe: str
    item: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]
    choice: Annotated[int, Field(ge=0)]
    label: Annotated[int, Field(ge=0)] | None
    tokens: Annotated[int, Field(ge=1)]
    bytes: Annotated[int, Field(ge=1)]
    logprob: LogLikelihood


def read_completions(path: Path) -> list[Completion]:
    """Read the completions of one policy, sorted by key; raise UserError also where there are none, or one twice."""
    found = read(path, Completion)
    if not found:
        raise UserError(f"{path}: expected at least one completion; {REMEDY}")
    check_unique(path, (row.key for row in found))
    return sorted(found, key=lambda row: row.key)


def name_strays(expected: Set[Path]) -> None:
    """Name the files in one log line that lie beside the expected ones and are none of them: they are not read."""
    folders = {path.parent.parent for path in expected}
    strays = sorted(str(path) for folder in folders for path in folder.rglob("*.jsonl") if path not in expected)
    if strays:
        logging.getLogger(__name__).info("ignored, not in %s: %s", paths.roster_file(), ", ".join(strays))


def check_unique(path: Path, keys: Iterable[tuple[object, ...]]) -> None:
    """Raise UserError naming file and line of the first key (what `named` is given) that was there before."""
    seen: set[tuple[object, ...]] = set()
    for number, key in enumerate(keys, start=1):
        if key in seen:
            raise UserError(f"{path}:{number}: {named(*key)} stands here a second time; {REMEDY}")
        seen.add(key)


def check_same_keys(path: Path, found: Set[Key], origin: Path | str, expected: Set[Key]) -> None:
    """Raise UserError naming `path` and the first completion that it lacks or should not hold, compared to `origin`."""
    if expected - found:
        others = f" (and holds {named(*min(found - expected))}, which that lacks)" if found - expected else ""
        raise UserError(f"{path}: lacks {named(*min(expected - found))}, which {origin} has{others}; {REMEDY}")
    if found - expected:
        raise UserError(f"{path}: holds {named(*min(found - expected))}, which {origin} lacks; {REMEDY}")


def named(prompt_id: object, sample: object, judge: object = None, kind: object = None) -> str:
    """Return what a message calls a row; `kind` tells it from those of the judges of toxicity."""
    scorer = f" judge {shown(judge)}" if judge is not None else ""
    apart = f" ({kind})" if kind is not None else ""
    return f"prompt {shown(prompt_id)} sample {sample}{scorer}{apart}"


def read(path: Path, model: type[Row]) -> list[Row]:
    """Read every line as `model`; raise UserError naming file, line, key and what was expected."""
    return [_row(path, number, raw, model) for number, raw in enumerate(records.read_jsonl(path), start=1)]


def read_scores(path: Path) -> list[Score | FluencyRow | Refused]:
    """Read every line of a file of scores: a judge's, the fluency model's or the judge's of refusals; raise as `read`.

    A row is told by the key that the others lack.
    """
    return [_score(path, number, raw) for number, raw in enumerate(records.read_jsonl(path), start=1)]


def _score(path: Path, number: int, raw: Mapping[str, Any]) -> Score | FluencyRow | Refused:
    if "model" in raw:
        return _row(path, number, raw, FluencyRow)
    return _row(path, number, raw, Refused) if REFUSAL in raw else _row(path, number, raw, Score)


def _row(path: Path, number: int, raw: Mapping[str, Any], model: type[Row]) -> Row:
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise UserError(f"{path}:{number}: {first_problem(error)}; {REMEDY}") from None


def first_problem(error: ValidationError, *outer: str) -> str:
    """Return `key: what is wrong` of the first key that is invalid; `outer` are the keys around the whole."""
    first = error.errors(include_url=False)[0]
    key = shortened(".".join(str(part) for part in (*outer, *first["loc"])), 200) or "(row)"
    return f"{key}: {_wrong(first)}"


def _wrong(found: ErrorDetails) -> str:
    if found["type"] == "missing":
        return "missing"
    message = found["msg"].removeprefix("Value error, ")
    message = _CLASS.sub("an object", message.replace("Input should be", "expected"))
    if found["type"] == "value_error":
        return message
    value = found["input"]
    is_text = isinstance(value, str) and bool({*_TEXTS} & {*found["loc"]})
    return f"{message}, got {type(value).__name__ if is_text or isinstance(value, dict | list) else shown(value)}"
