"""The judges' cards, checked to be those of the judges that gave the scores."""

from collections.abc import Mapping
from typing import Any

from pipeline import paths, records
from pipeline.errors import UserError

_REMEDY = "run `dvc repro`"


def read_cards(experiment: str, judges: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return the card of every judge, given name -> sha256 as the scores name them.

    Raises UserError when a judge has no card, or its card is of another version of it: its scores are then old.
    """
    path = paths.metrics(experiment, "judge")
    cards = records.read_json(path).get("cards")
    if not isinstance(cards, dict):
        raise UserError(f"{path}: cards: expected one card a judge; {_REMEDY}")
    for judge, digest in judges.items():
        if judge not in cards:
            raise UserError(f"{path}: cards.{judge}: missing; {_REMEDY}")
        found = cards[judge].get("fingerprint")
        if found != digest:
            raise UserError(
                f"{path}: cards.{judge}.fingerprint: the scores are of {digest}, the card is of {found}; {_REMEDY} to "
                "score with the judge as it is now"
            )
    return {judge: cards[judge] for judge in judges}
