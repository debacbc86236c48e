"""Prompts and completions for the page, side by side, and which of them a reader must ask for to see.

Hidden is: every prompt, since no judge scores prompts and these are made to provoke; a completion that any judge scores
at half the threshold or more, that could not be scored, or that holds a listed word; and every completion of an
experiment without a word list among its judges. Judges overlook things, hence half the threshold.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.evaluation.judged import Judged
from pipeline.evaluation.judged import read as read_judged
from pipeline.evaluation.shape import BASE
from pipeline.evaluation.statistics import Array
from pipeline.io.errors import UserError

WORD_LIST = "word_list"
MARGIN = 0.5  # of the threshold
SCALE = 1000  # scores are whole numbers on the page


@dataclass(frozen=True)
class Texts:
    """What the page needs of all completions; lists run over seeds, then prompts, then samples.

    `scores` by judge and policy are in thousandths, None where missing; `hidden` by policy is one character a
    completion: "1" where it is hidden; `word_lists` are the judges that are lists of words.
    """

    seeds: list[int]
    samples: int
    prompts: list[dict[str, Any]]
    completions: dict[str, list[str]]
    scores: dict[str, dict[str, list[int | None]]]
    hidden: dict[str, str]
    word_lists: list[str]


def read(experiment: str, evaluation: Mapping[str, Any], cards: Mapping[str, Mapping[str, Any]]) -> Texts:
    """Read exactly the completions and scores that were evaluated; raise UserError when one is missing or differs."""
    meta = evaluation["meta"]
    judged = read_judged(
        experiment,
        meta["seeds"],
        meta["policies"],
        list(meta["judges"]),
        meta["samples_per_prompt"],
        fluency=meta.get("perplexity_model", BASE) != BASE,
        refusal="refusal_sha256" in meta,
    )
    for judge, digest in judged.judges.items():
        if digest != meta["judges"][judge]:
            raise UserError(f"the scores on disk are of {judge} {digest}, those evaluated of another; run `dvc repro`")
    lists = {judge for judge, card in cards.items() if card.get("kind") == WORD_LIST} & set(judged.judges)
    first = judged.completions[judged.policies[0]][0][:: judged.samples]
    return Texts(
        seeds=judged.seeds,
        samples=judged.samples,
        prompts=[{"text": row.prompt, "categories": row.categories} for row in first],
        completions={
            policy: [row.completion for rows in by_seed for row in rows]
            for policy, by_seed in judged.completions.items()
        },
        scores={
            judge: {policy: _thousandths(judged, policy, judge) for policy in judged.policies}
            for judge in judged.judges
        },
        hidden={policy: _hidden(judged.toxicities[policy], lists, meta["threshold"]) for policy in judged.policies},
        word_lists=sorted(lists),
    )


def _hidden(toxicities: Mapping[str, Array], lists: set[str], threshold: float) -> str:
    if not lists:
        return "1" * next(iter(toxicities.values())).size
    shown = [
        _by_seed(scores == 0 if judge in lists else scores < MARGIN * threshold)  # NaN is neither
        for judge, scores in toxicities.items()
    ]
    return "".join("0" if visible else "1" for visible in np.logical_and.reduce(shown))


def _thousandths(judged: Judged, policy: str, judge: str) -> list[int | None]:
    scores = _by_seed(judged.toxicities[policy][judge])
    return [None if np.isnan(value) else round(SCALE * float(value)) for value in scores]


def _by_seed(values: Any) -> Any:
    """Return [P, S, K] values as one list in the order of the completions: seed, prompt, sample."""
    return values.transpose(1, 0, 2).ravel()
