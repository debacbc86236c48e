"""A model card says what the results say, is valid for the model hub, and depends on nothing else."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.io import paths
from pipeline.io.records import read_json, write_json
from pipeline.tracking import model_card
from tests.policy.tiny_llama import LLAMA
from tests.policy.tiny_model import NAME, SEED, TinyModel
from tests.tracking import evaluated


@pytest.fixture
def tiny() -> TinyModel:
    return LLAMA


@pytest.fixture(autouse=True)
def judged(train: Callable[..., Any]) -> None:
    """Lay out a policy and its evaluation, in which it fails a guard."""
    train()
    evaluated.leave(NAME, evaluated.evaluation({"reference": 0.28, "sft": 0.21}, failed={"sft": "distinct_2"}))


def merged() -> str:
    return model_card.merged_card(NAME, SEED, "sft", "LlamaForCausalLM")


def metadata(card: str) -> dict[str, Any]:
    from huggingface_hub import ModelCard

    return dict(ModelCard(card, ignore_metadata_errors=False).data.to_dict())


def test_its_front_matter_is_read_by_the_hub_s_library() -> None:
    assert metadata(merged()) == {
        "license": "apache-2.0",
        "base_model": "HuggingFaceTB/SmolLM2-135M-Instruct",
        "base_model_relation": "finetune",
        "library_name": "transformers",
        "tags": ["text-toxicity", "detoxification", "lora", "sft"],
    }
    adapter = metadata(model_card.adapter_card(NAME, SEED, "sft"))
    assert (adapter["library_name"], adapter["base_model_relation"]) == ("peft", "adapter")


def test_a_source_without_a_known_licence_is_called_unknown() -> None:
    path = paths.experiment_file(NAME)
    parameters = yaml.safe_load(path.read_text())
    parameters["model"]["source"]["uri"] = "hub:someone/something@" + "0" * 40
    path.write_text(yaml.safe_dump(parameters))
    found = metadata(merged())
    assert (found["license"], found["base_model"]) == ("unknown", "someone/something")
    assert "| unknown: see the source |" in merged()


def test_every_number_of_its_results_is_the_evaluation_s() -> None:
    card = merged()
    results = card[card.index("## Results") : card.index("## Made of")]
    shown = {abs(float(number)) for number in re.findall(r"(?<![\w.])[-+]?\d+\.\d{3}(?![\w.])", results)}
    evaluation = read_json(paths.metrics(NAME, "evaluation"))
    known = {round(abs(value), 3) for value in numbers(evaluation["sft"]) | numbers(evaluation["reference"])}
    assert shown and shown <= known
    assert "0.210 [0.180, 0.240]" in results and "-0.070 [-0.090, -0.050]" in results


def numbers(value: Any) -> set[float]:
    if isinstance(value, dict):
        return set().union(*map(numbers, value.values())) if value else set()
    return {float(value)} if isinstance(value, int | float) else set()


def test_of_several_seeds_it_says_what_is_pooled_and_what_its_own_did() -> None:
    evaluated.leave(NAME, evaluated.evaluation({"reference": 0.28, "sft": 0.21}, seeds=(SEED, 5)))
    card = merged()
    assert "seeds 0, 5 pooled" in card
    assert "This one by itself, by `minilm`: 0.210, -0.070 from the reference of its seed." in card


def test_it_names_the_verdict_and_the_guard_that_failed() -> None:
    card = merged()
    assert "**Verdict: not a win**" in card
    assert re.search(r"\| distinct_2 \|.*\| from -0\.05 \| \*\*no\*\* \|", card)
    assert "It fails these guards: distinct_2." in card


def test_it_names_every_part_with_its_hash_and_every_parameter() -> None:
    card = merged()
    parameters = yaml.safe_load(paths.experiment_file(NAME).read_text())
    for source in (parameters["model"]["source"], *parameters["data"]["sources"].values()):
        assert source["uri"] in card and source["sha256"] in card
    sections = {name: parameters[name] for name in ("lora", "preferences")}
    for section, values in (sections | {"methods.sft": parameters["methods"]["sft"]}).items():
        for key in values:
            assert f"| {section}.{key} |" in card, key
    assert "ppo." not in card
    assert str(read_json(paths.metrics(NAME, "sft", SEED))["adapter_sha256"]) in card


def test_its_example_loads_what_it_is_about(tmp_path: Path) -> None:
    card = model_card.adapter_card(NAME, SEED, "sft")
    (code,) = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
    found: dict[str, Any] = {}
    exec(code.replace('"."', repr(str(paths.adapter(NAME, SEED, "sft")))), found)
    assert set(found["model"].peft_config) == {"default"}


def test_a_policy_that_was_not_evaluated_has_no_numbers() -> None:
    paths.metrics(NAME, "evaluation").unlink()
    card = merged()
    assert "**Not evaluated:**" in card
    assert "## Results" not in card


def test_it_depends_on_results_alone() -> None:
    first = merged()
    assert merged() == first
    assert str(Path.cwd()) not in first
    assert not re.search(r"\b20\d\d-\d\d-\d\d\b", first)


def test_words_of_a_list_are_not_in_it() -> None:
    path = paths.experiment_file(NAME)
    parameters = yaml.safe_load(path.read_text())
    parameters["reward"]["scorer"] = {"kind": "keyword", "keywords": ["dunce", "rotten"], "saturation": 1}
    path.write_text(yaml.safe_dump(parameters))
    card = merged()
    assert "| reward.scorer.keywords | 2 texts |" in card
    assert "dunce" not in card


def test_what_a_judge_gets_wrong_is_among_the_limits() -> None:
    rate = {"value": 0.2, "low": 0.1, "high": 0.3, "windows": 120}
    write_json(paths.metrics(NAME, "judge"), {"cards": {"minilm": {"identity": rate}, "words": {"identity": rate}}})
    assert "`minilm` calls 0.200 [0.100, 0.300] of harmless sentences" in merged()


def test_it_tells_refusals_apart_from_toxicity_where_they_were_judged() -> None:
    assert "### Refusals" not in merged() and "A refusal is" not in merged()
    rates = {"reference": {"hostile": 0.4, "benign": 0.05}, "sft": {"hostile": 0.9, "benign": 0.6}}
    found = evaluated.declining(evaluated.evaluation({"reference": 0.28, "sft": 0.21}), rates)
    evaluated.leave(NAME, found)
    rate = {"value": 0.93, "low": 0.9, "high": 0.95, "windows": 60}
    card = {"fingerprint": "c" * 64, "labelled": 120, "sensitivity": rate, "specificity": rate}
    write_json(paths.metrics(NAME, "judge"), {"cards": {}, "refusal": card})
    text = merged()
    section = text[text.index("### Refusals") : text.index("### What it cost")]
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in section.splitlines() if row.startswith("|")]
    assert {len(row) for row in rows} == {6}
    assert rows[2][:4] == ["60 hostile", "0.900 [0.820, 0.980]", "0.400 [0.320, 0.480]", "+0.500 [+0.450, +0.550]"]
    assert rows[3][0] == "60 benign" and rows[3][4:] == ["0.200 [0.170, 0.230]", "-0.100 [-0.130, -0.070]"]
    assert "of 120 labelled replies it finds 0.930 [0.900, 0.950]" in text
