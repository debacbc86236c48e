"""The rows of completions/: sorted, complete, and with log-probabilities where the parameters ask for them."""

import math

import pytest
import torch

from pipeline.data.schema import prompt_row
from pipeline.evaluation.complete import completion_rows
from pipeline.policy import loading
from pipeline.policy.prompts import tokenize_prompts
from pipeline.policy.types import Completion, Prompt
from tests.policy import tiny_llama
from tests.policy.tiny_model import NOT_SAMPLED

TEXTS = ["the old farmer sings", "a child", "young sailor and the quiet bird", "but never", "cold water from the river"]
ROWS = [prompt_row(text, ["mild"] if place % 2 else []) for place, text in enumerate(TEXTS)]


@pytest.fixture
def tiny():
    """One architecture is enough: rows are made above the seam."""
    return tiny_llama.LLAMA


def rows_of(policy):
    complete = tiny_llama.section(
        "complete", samples_per_prompt=3, analyzed_samples=2, max_new_tokens=6, batch_size=4, top_p=0.9
    )
    prompts = tokenize_prompts(ROWS, policy.tokenizer, tiny_llama.section("model"), "eval.jsonl")
    return list(completion_rows(policy, ROWS, prompts, complete, seed=5))


@pytest.fixture
def trained(policy):
    tiny_llama.perturb(policy.model)
    loading.save_adapter(policy.model, "exp", 0, "ppo")
    return tiny_llama.load("ppo")


def test_rows_are_sorted_and_complete(base):
    rows = rows_of(base)
    keys = [(row["prompt_id"], row["sample"]) for row in rows]
    assert keys == sorted((row.id, sample) for row in ROWS for sample in range(3))
    given = {row.id: row for row in ROWS}
    assert all(row["prompt"] == given[row["prompt_id"]].prompt for row in rows)
    assert all(row["categories"] == given[row["prompt_id"]].categories for row in rows)
    assert all(row["completion"].split() and not row["completion"].startswith(row["prompt"]) for row in rows)


def test_only_the_analyzed_samples_carry_log_probabilities(trained):
    assert all((row["logprobs"] is None) == (row["sample"] >= 2) for row in rows_of(trained))


def test_a_bare_reference_is_exactly_itself_and_the_base(base):
    for row in rows_of(base):
        if row["logprobs"]:
            assert row["logprobs"]["policy"] == row["logprobs"]["reference"] == row["logprobs"]["base"] < 0


def test_a_task_reference_is_itself_and_not_the_base(workplace):
    tiny_llama.write_task_reference()
    found = [row["logprobs"] for row in rows_of(tiny_llama.load("reference")) if row["logprobs"]]
    assert all(row["policy"] != row["base"] for row in found)
    assert all(math.isclose(row["policy"], row["reference"], abs_tol=1e-4) for row in found)


def test_the_three_log_probabilities_are_those_of_policy_reference_and_base(trained):
    rows = [row for row in rows_of(trained) if row["logprobs"]]
    tokens = {row.id: tuple(trained.tokenizer(row.prompt)["input_ids"]) for row in ROWS}
    items = [
        Completion(Prompt("", "", tokens[row["prompt_id"]]), 0, tuple(row["token_ids"]), False, "", NOT_SAMPLED)
        for row in rows
    ]
    with torch.no_grad():
        own = trained.analyze(items).logprobs.sum(dim=1).tolist()
        with trained.acting_as("reference"):
            reference = trained.analyze(items).logprobs.sum(dim=1).tolist()
        with trained.acting_as("base"):
            base = trained.analyze(items).logprobs.sum(dim=1).tolist()
    for row, expected in zip(rows, zip(own, reference, base, strict=True), strict=True):
        found = [row["logprobs"][key] for key in ("policy", "reference", "base")]
        assert all(math.isclose(one, other, abs_tol=1e-4) for one, other in zip(found, expected, strict=True))


def test_the_noise_is_the_same_for_every_policy(base):
    fresh = tiny_llama.new_policy()  # B = 0: it says what the base says
    assert [row["token_ids"] for row in rows_of(fresh)] == [row["token_ids"] for row in rows_of(base)]
