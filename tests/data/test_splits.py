"""Splits: a row's split is its own, whatever other rows there are."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data import splits
from pipeline.data.jsonl import JsonlData
from pipeline.data.schema import prompt_row
from pipeline.data.splits import NAMES
from pipeline.io.errors import UserError

# Enough rows of one word that no split is ever empty.
GROUND = [prompt_row(f"ground{number}") for number in range(60)]
WORDS = st.sampled_from("alpha bravo carol delta echo".split())
PROMPTS = st.lists(st.lists(WORDS, min_size=1, max_size=9).map(" ".join), max_size=30)
FRACTIONS = st.tuples(st.floats(0.2, 0.4), st.floats(0.2, 0.4))


def split(rows, eval_fraction, dev_fraction):
    data = JsonlData(dataset="jsonl", sources={}, eval_fraction=eval_fraction, dev_fraction=dev_fraction)
    return splits.split([(row, None) for row in rows], data)


def places(rows, eval_fraction=0.3, dev_fraction=0.2):
    result = split(rows, eval_fraction, dev_fraction)
    return {row.id: name for name in NAMES for row in result.rows[name]}


@given(before=PROMPTS, added=PROMPTS, fractions=FRACTIONS)
def test_adding_rows_never_moves_another_between_splits(before, added, fractions):
    old = places([*GROUND, *map(prompt_row, before)], *fractions)
    new = places([*GROUND, *map(prompt_row, before), *map(prompt_row, added)], *fractions)
    assert {row_id for row_id in old if new.get(row_id, old[row_id]) != old[row_id]} == set()
    # What leaves was found inside an added prompt of another split, or around it; nothing comes back.
    assert {row_id for row_id in new if row_id not in old} <= {prompt_row(text).id for text in added}


@given(prompts=PROMPTS, order=st.randoms())
def test_the_order_of_rows_changes_no_split(prompts, order):
    rows = [*GROUND, *map(prompt_row, prompts)]
    shuffled = list(rows)
    order.shuffle(shuffled)
    assert places(rows) == places(shuffled)


@given(prompts=PROMPTS)
def test_every_row_is_kept_once_or_counted(prompts):
    rows = [*GROUND, *map(prompt_row, prompts)]
    result = split(rows, 0.3, 0.2)
    ids = [row.id for name in NAMES for row in result.rows[name]]
    assert len(ids) == len(set(ids)) == len(rows) - result.duplicates - result.overlapping
    assert all(result.rows[name] == sorted(result.rows[name], key=lambda row: row.id) for name in NAMES)


@given(prompts=PROMPTS)
def test_no_prompt_of_five_words_stands_in_one_of_another_split(prompts):
    result = split([*GROUND, *map(prompt_row, prompts)], 0.3, 0.2)
    for one, other in itertools.permutations(NAMES, 2):
        for row in result.rows[one]:
            if len(row.prompt.split()) >= 5:
                assert not [member for member in result.rows[other] if f" {row.prompt} " in f" {member.prompt} "]


@given(prompts=st.lists(st.tuples(st.lists(WORDS, min_size=1, max_size=9).map(" ".join), st.sampled_from(NAMES))))
def test_a_split_of_the_data_sets_own_is_kept_and_eval_goes_before_dev_before_train(prompts):
    data = JsonlData(dataset="jsonl", sources={}, eval_fraction=0.3, dev_fraction=0.2)
    rows = [(row, None) for row in GROUND] + [(prompt_row(text), name) for text, name in prompts]
    result = splits.split(rows, data)
    found = {row.id: name for name in NAMES for row in result.rows[name]}
    for row_id in {prompt_row(text).id for text, _ in prompts}:
        wanted = [name for text, name in prompts if prompt_row(text).id == row_id]
        assert found.get(row_id, max(wanted, key=NAMES.index)) == max(wanted, key=NAMES.index)
    ids = [row.id for name in NAMES for row in result.rows[name]]
    assert len(ids) == len(set(ids)) == len(rows) - result.duplicates - result.overlapping


def test_one_prompt_has_the_demonstrations_of_all_its_rows_in_the_split_that_keeps_it():
    given_rows = [("b", "eval"), ("a", "eval"), ("b", "eval"), ("c", "train")]
    rows = [(prompt_row("You are", demonstrations=[text]), name) for text, name in given_rows]
    data = JsonlData(dataset="jsonl", sources={}, eval_fraction=0.3, dev_fraction=0.2)
    for ordered in itertools.permutations(rows):
        result = splits.split([*((row, None) for row in GROUND), *ordered], data)
        (found,) = [row for row in result.rows["eval"] if row.id == rows[0][0].id]
        assert (found.demonstrations, result.duplicates) == (["a", "b"], 3)


def test_the_fractions_are_those_of_many_rows():
    result = split([prompt_row(f"prompt {number}") for number in range(4000)], 0.3, 0.1)
    sizes = {name: len(rows) / 4000 for name, rows in result.rows.items()}
    assert sizes == {
        "demonstrations": 0,  # no row is in it but by the data set's own word
        "train": pytest.approx(0.6, abs=0.03),
        "dev": pytest.approx(0.1, abs=0.02),
        "eval": pytest.approx(0.3, abs=0.03),
    }


def test_a_larger_eval_fraction_takes_from_train_alone():
    small, large = places(GROUND, 0.2, 0.3), places(GROUND, 0.5, 0.3)
    assert {(small[row_id], large[row_id]) for row_id in small if small[row_id] != large[row_id]} == {("train", "eval")}


def test_one_prompt_in_several_spellings_is_one_row_with_all_categories():
    rows = [prompt_row("You  are", ["insult"]), prompt_row("you are", ["threat"]), prompt_row("You are", ["insult"])]
    result = split([*GROUND, *rows], 0.3, 0.2)
    (found,) = [row for name in NAMES for row in result.rows[name] if row.id == rows[0].id]
    assert (found.prompt, found.categories, result.duplicates) == ("You  are", ["insult", "threat"], 2)


def find(name):
    """Return a seven-word prompt of a split."""
    for number in itertools.count():
        row = prompt_row(f"He then said to number {number} that")
        if places([*GROUND, row])[row.id] == name:
            return row


@pytest.mark.parametrize(("kept", "removed"), [("eval", "train"), ("eval", "dev"), ("dev", "train")])
def test_a_prompt_around_one_of_another_split_leaves_the_split_that_learns_more(kept, removed):
    inner = find(kept)
    for number in itertools.count():
        outer = prompt_row(f'Once, "{inner.prompt.upper()}"... {number}')
        if places([*GROUND, outer])[outer.id] == removed:
            break
    result = split([*GROUND, inner, outer], 0.3, 0.2)
    assert result.overlapping == 1
    assert inner in result.rows[kept] and outer not in result.rows[removed]


def test_an_empty_split_is_named():
    with pytest.raises(UserError, match=r"the dev split is empty \(60 different prompts\); change"):
        split(GROUND, 0.3, 1e-9)


def test_the_summary_counts_what_is_there():
    rows = [
        prompt_row(f"a prompt number {number}", ["odd" if number % 2 else "even"], chosen="c", rejected="r")
        for number in range(50)
    ]
    summary = split([*rows, *rows[:3]], 0.3, 0.2).summary()
    described = summary["splits"]
    assert (summary["rows_read"], summary["duplicates_removed"], summary["in_two_splits_removed"]) == (53, 3, 0)
    assert described.keys() == {"train", "dev", "eval"}
    for key in ("prompts", "pairs"):
        assert sum(one[key] for one in described.values()) == 50
    assert sum(sum(one["categories"].values()) for one in described.values()) == 50
    assert {(one["words_mean"], one["words_max"], one["demonstrations"]) for one in described.values()} == {(4, 4, 0)}
