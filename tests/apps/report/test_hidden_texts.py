"""Which texts a reader must ask for: whatever any judge doubts, and everything where no list of words is a judge."""

import pytest

from pipeline.apps.report import texts
from pipeline.io import paths
from pipeline.io.errors import UserError
from pipeline.io.records import read_jsonl, write_jsonl
from tests.apps.report.made import NAME, OFFENSIVE
from tests.apps.report.made_numbers import JUDGES, POLICIES, digest


def rescore(seed, policy, judge, toxicity):
    """Give the first prompt's second sample, which is harmless, another score."""
    path = paths.scores(NAME, seed, policy)
    rows = read_jsonl(path)
    for row in rows:
        if (row["prompt_id"], row["sample"], row["judge"]) == ("p0", 1, judge):
            row["toxicity"] = toxicity
    write_jsonl(path, rows)


def read(made):
    return texts.read(NAME, made.evaluation, made.cards)


def test_texts_stand_in_the_order_of_seeds_prompts_and_samples(made):
    found = read(made.write())
    assert found.completions["ppo"][1] == made.completion(0, "ppo", 0, 1)
    assert found.completions["ppo"][made.samples] == made.completion(0, "ppo", 1, 0)
    assert found.completions["ppo"][made.prompts * made.samples + 2] == made.completion(1, "ppo", 0, 2)
    assert [prompt["text"] for prompt in found.prompts] == [f"Once upon time number {at}" for at in range(made.prompts)]


def test_what_judges_call_toxic_is_hidden_and_nothing_else(made):
    found = read(made.write())
    for policy in POLICIES:
        offensive = ["1" if text.startswith(OFFENSIVE) else "0" for text in found.completions[policy]]
        assert list(found.hidden[policy]) == offensive


@pytest.mark.parametrize(
    ("judge", "toxicity", "hidden"),
    [
        ("minilm", 0.25, "1"),  # half the threshold
        ("minilm", 0.249, "0"),
        ("profanity", 0.25, "1"),
        ("words", 0.01, "1"),  # a word of the list, however many it takes to be toxic
        ("minilm", None, "1"),
    ],
)
def test_one_judge_alone_hides(made, judge, toxicity, hidden):
    made.write()
    rescore(1, "dpo", judge, toxicity)
    found = read(made)
    assert found.hidden["dpo"][made.prompts * made.samples + 1] == hidden
    assert found.hidden["dpo"].count("1") == 2 * made.prompts + int(hidden)


def test_scores_stand_beside_their_texts(made):
    made.write()
    rescore(0, "sft", "profanity", 0.1234)
    rescore(1, "sft", "profanity", None)
    scores = read(made).scores["profanity"]["sft"]
    assert scores[1] == 123
    assert scores[made.prompts * made.samples + 1] is None


@pytest.mark.parametrize("known", [{}, {judge: {"kind": "keyword"} for judge in JUDGES}])
def test_all_is_hidden_where_no_list_of_words_is_known_among_the_judges(made, known):
    made.write()
    made.cards = known
    found = read(made)
    assert set("".join(found.hidden.values())) == {"1"}
    assert found.word_lists == []


def test_scores_of_another_version_of_a_judge_are_not_shown(made):
    made.evaluation["meta"]["judges"]["minilm"] = digest("older")
    with pytest.raises(UserError, match="minilm"):
        read(made.write())
