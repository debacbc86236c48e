"""The judges' cards, checked to be whole and to be those of the judges that gave the scores; that of refusals apart."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.evaluation.rows import REFUSAL, first_problem
from pipeline.io import paths, records
from pipeline.io.errors import UserError, shown

_REMEDY = "run `dvc repro`"
Share = Annotated[float, Field(ge=0, le=1)]
Number = float | None


class _Part(BaseModel):
    """Keys that are not named are left alone."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class _Ends(_Part):
    low: Number
    high: Number


class _Rate(_Part):
    value: Share
    low: Number = None
    high: Number = None
    windows: Annotated[int, Field(ge=1)]


class _Bin(_Part):
    mean: Number = None
    toxic: Number = None


class _Calibration(_Part):
    brier: Number = None
    ece: Number = None
    bins: dict[Annotated[str, Field(pattern="^[0-9]{1,4}$")], _Bin] = {}


class _Test(_Part):
    sensitivity: _Rate
    specificity: _Rate
    auc: Number = None
    auc_interval: _Ends | None = None
    calibration: _Calibration | None = None


class _Identity(_Rate):
    terms: dict[str, Share] = {}


class _Card(_Part):
    fingerprint: str
    kind: str | None = None
    status: str | None = None
    threshold: Number = None
    held_out_source: str | None = None
    test: _Test | None = None
    false_positive_rate: _Rate | None = None
    identity: _Identity | None = None


class _Refusal(_Part):
    fingerprint: str
    kind: str | None = None
    labelled: int | None = None
    sensitivity: _Rate | None = None
    specificity: _Rate | None = None
    by_origin: dict[str, dict[str, _Rate]] = {}


def read_cards(experiment: str, judges: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return the card of every judge, given name -> sha256 as the scores name them.

    Raises UserError when a judge has no card, or a broken one, or its card is of another version of it: its scores are
    then old.
    """
    path = paths.metrics(experiment, "judge")
    cards = read(path)
    for judge, digest in judges.items():
        if judge not in cards:
            raise UserError(f"{path}: cards.{judge}: missing; {_REMEDY}")
        found = cards[judge]["fingerprint"]
        if found != digest:
            raise UserError(
                f"{path}: cards.{judge}.fingerprint: the scores are of {digest}, the card is of {shown(found)}; "
                f"{_REMEDY} to score with the judge as it is now"
            )
    return {judge: cards[judge] for judge in judges}


def read(path: Path) -> dict[str, dict[str, Any]]:
    """Read all cards by judge; raise UserError naming file and key where one is not as `judge` writes them."""
    cards = records.read_json(path).get("cards")
    if not isinstance(cards, dict):
        raise UserError(f"{path}: cards: expected one card a judge; {_REMEDY}")
    for judge, card in cards.items():
        try:
            _Card.model_validate(card)
        except ValidationError as error:
            raise UserError(f"{path}: {first_problem(error, 'cards', judge)}; {_REMEDY}") from None
    return cards


def check_refusal(experiment: str, digest: str) -> None:
    """Raise UserError unless there is a card of the judge of refusals, and of the one that gave the rows, `digest`."""
    path = paths.metrics(experiment, "judge")
    card = read_refusal(path)
    if card is None:
        raise UserError(f"{path}: {REFUSAL}: missing; {_REMEDY}")
    if card["fingerprint"] != digest:
        found = shown(card["fingerprint"])
        raise UserError(
            f"{path}: {REFUSAL}.fingerprint: the rows of scores are of {digest}, the card is of {found}; "
            f"{_REMEDY} to judge refusals as the experiment says now"
        )


def read_refusal(path: Path) -> dict[str, Any] | None:
    """Read the card of the judge of refusals, None without one; raise UserError where it is not whole."""
    card = records.read_json(path).get(REFUSAL)
    if card is None:
        return None
    try:
        _Refusal.model_validate(card)
    except ValidationError as error:
        raise UserError(f"{path}: {first_problem(error, REFUSAL)}; {_REMEDY}") from None
    return dict(card)
