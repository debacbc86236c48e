"""The judges' cards, checked to be whole and to be those of the judges that gave the scores."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline import paths, records
from pipeline.config.shown import shown
from pipeline.errors import UserError
from pipeline.evaluation.invalid import first_problem

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
