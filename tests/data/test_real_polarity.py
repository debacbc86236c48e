"""The polarity lint on real preference data, in both directions, with the real scorers; it prints no row of it."""

import csv
import gzip
import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.loader import load
from pipeline.config.sections import DatasetPreferences, RefusalSection
from pipeline.data.schema import PromptRow, prompt_row
from pipeline.io.errors import UserError
from pipeline.policy.types import Prompt
from pipeline.preferences.of_data_set import Answers, dataset_pairs
from pipeline.preferences.polarity import check_polarity, lint
from pipeline.scorers.loading import load_refusal, load_scorer
from pipeline.scorers.reward import Reward
from tests.policy import tiny_llama
from tests.policy.chatting import PREFERENCES, REFUSAL, llama_tokenizer

ROOT = Path(__file__).resolve().parents[2]
REAL = ROOT.parent / "shared" / "data"
HARMLESS = REAL / "hh_rlhf_harmless" / "test.jsonl.gz"
PARADETOX = REAL / "paradetox" / "paradetox.tsv"
TURN = "\n\nAssistant:"
MOST = 3000  # rows of ParaDetox: what more of them would say is the same
OTHER = {"as_labelled": "swapped", "swapped": "as_labelled"}


def harmless() -> Iterator[PromptRow]:
    """Yield the dialogues of people who preferred the more harmless of two answers (Bai et al. 2022)."""
    for line in gzip.open(HARMLESS, "rt", encoding="utf-8"):
        row = json.loads(line)
        (prompt, _, chosen), (other, _, rejected) = (row[side].rpartition(TURN) for side in ("chosen", "rejected"))
        if prompt == other:
            yield prompt_row(prompt + TURN, chosen=chosen, rejected=rejected)


def paradetox() -> Iterator[PromptRow]:
    """Yield a polite rewrite as chosen and the sentence that it was made of as rejected (Logacheva et al. 2022)."""
    with PARADETOX.open(encoding="utf-8", newline="") as file:
        for number, row in enumerate(itertools.islice(csv.DictReader(file, delimiter="\t"), MOST)):
            yield prompt_row(f"Sentence {number}", chosen=row["neutral1"], rejected=row["toxic"])


@pytest.fixture(scope="module")
def reward() -> Reward:
    """Return the default experiment's reward: the real alt-profanity-check."""
    with chdir(ROOT):
        section = load("smollm2-rtp", ("reward",)).reward
    scorer = load_scorer(section.name, section.scorer, Path(), "real")
    return Reward(section, scorer, scorer.score)


def linted(rows: list[PromptRow], polarity: str, reward: Reward) -> tuple[dict[str, Any], DatasetPreferences, int]:
    tokenizer, model = llama_tokenizer(), tiny_llama.section("model")
    prompts = [Prompt(row.id, row.prompt, (3,)) for row in rows]
    settings = DatasetPreferences.model_validate(PREFERENCES | {"polarity": polarity})
    pairs, _ = dataset_pairs(rows, prompts, Answers(tokenizer, model, 10_000, None), reward, settings)
    refusal = load_refusal(RefusalSection.model_validate(REFUSAL))
    return lint(pairs, refusal, settings.lint, ()), settings, len(pairs)


def data_set(path: Path, read: Callable[[], Iterator[PromptRow]], least: int, share: tuple[float, float]) -> Any:
    absent = pytest.mark.skipif(not path.is_file(), reason=f"{path.parent.name} is not in ../shared/data")
    return pytest.param(read, least, share, marks=absent, id=path.parent.name)


@pytest.mark.parametrize(
    "read, least, share",
    [data_set(HARMLESS, harmless, 2300, (0.2, 0.4)), data_set(PARADETOX, paradetox, 2900, (0.0, 0.01))],
)
def test_the_lint_knows_which_side_is_better_in_both_directions(
    read: Callable[[], Iterator[PromptRow]], least: int, share: tuple[float, float], reward: Reward
) -> None:
    rows = list(read())
    shares = {}
    for polarity, verdict in (("as_labelled", "agrees"), ("swapped", "contradicts")):
        found, settings, pairs = linted(rows, polarity, reward)
        assert found["verdict"] == verdict and pairs >= least
        shares[polarity] = found["chosen_worse"]["value"]
        if verdict == "contradicts":
            with pytest.raises(UserError, match=f"polarity: {OTHER[polarity]}"):
                check_polarity(found, settings)
        else:
            check_polarity(found, settings)
    assert share[0] <= shares["as_labelled"] <= share[1]
    assert shares["swapped"] == pytest.approx(1 - shares["as_labelled"])
