"""What the stage `reference` counts, requires, refuses, and repeats."""

import json

import pytest
import torch

from pipeline.io import paths
from pipeline.policy import loading
from pipeline.tracking.execution import Execution
from tests.methods.reference.conftest import ANSWER, METRICS, NOTHING, files, write_rows
from tests.policy.tiny_llama import LLAMA
from tests.policy.tiny_model import NAME, SEED
from tests.policy.tiny_t5 import T5


@pytest.fixture
def tiny():
    """One architecture is enough: what is tested here is above the seam."""
    return LLAMA


def refusal(capsys):
    *_, message = capsys.readouterr().err.splitlines()  # after the progress bar
    assert message.startswith("reference: ")
    return message


def train():
    return json.loads(files()[METRICS])["train"]


def test_a_bare_base_is_not_trained_and_keeps_no_checkpoints(stage):
    stage(kind="base")
    assert set(files()) == {"manifest.json", METRICS}
    found = json.loads(files()[METRICS])
    assert set(found) == {"dev"} and found["dev"]["kl"] == 0
    assert not list(paths.checkpoints(NAME, SEED, "reference").parent.glob("*"))
    assert Execution("reference", NAME, SEED).curves is None


def test_without_demonstrations_there_is_no_rouge(stage):
    write_rows({"dev": (6, 1)}, answers=())
    stage(kind="base")
    assert "rouge_l" not in json.loads(files()[METRICS])["dev"]


@pytest.mark.parametrize(
    ("required", "named"), [({"rouge_l": 0.99}, "rouge_l"), ({"toxicity_mean": 1.0, "rouge_l": 0.0}, "toxicity_mean")]
)
def test_a_reference_that_does_not_reach_what_is_required_leaves_nothing(stage, required, named, capsys):
    with pytest.raises(SystemExit) as ended:
        stage(kind="adapter", epochs=1, require=NOTHING | required)
    assert ended.value.code == 2 and files() == {}
    assert f"reference.require.{named}: expected at least" in refusal(capsys)


def test_what_cannot_be_measured_is_not_reached(stage, capsys):
    write_rows({"dev": (6, 1)}, answers=())
    with pytest.raises(SystemExit):
        stage(kind="adapter", epochs=1, require=NOTHING | {"rouge_l": 0.0})
    assert "got nothing to measure it on" in refusal(capsys)


def test_what_is_reached_is_enough(stage):
    stage(kind="full", require={"rouge_l": 0.5, "toxicity_mean": 0.5})
    assert json.loads(files()[METRICS])["dev"]["toxicity_mean"] > 0.5, "the task's sentence has one of its words"


def test_a_longer_demonstration_is_left_out_and_told(stage, caplog):
    path = paths.formatted(NAME, "train")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows[:3]:
        row["demonstrations"] = [f"{ANSWER} and {ANSWER}"]
    rows[3]["demonstrations"] = []
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with caplog.at_level("WARNING"):
        stage(kind="adapter", epochs=1)
    assert (train()["examples"], train()["too_long"], train()["without"]) == (12, 3, 1)
    (line,) = [record.getMessage() for record in caplog.records if "demonstrations" in record.getMessage()]
    assert "3 of 15 demonstrations have more than 12 tokens" in line


def test_demonstrations_that_no_training_has_prompts_of_are_learnt_too(stage):
    write_rows({"demonstrations": (5, 2)})
    stage(kind="adapter", epochs=1)
    assert train()["examples"] == 21


def test_nothing_to_learn_from_is_one_message(stage, capsys):
    write_rows({"train": (4, 0)}, answers=())
    with pytest.raises(SystemExit) as ended:
        stage(kind="full")
    assert ended.value.code == 2 and files() == {}
    assert "no demonstration to train the reference on (0 too long, 4 prompts without)" in refusal(capsys)


def test_a_training_that_leaves_no_numbers_is_named(stage, capsys):
    with pytest.raises(SystemExit) as ended:
        stage(kind="full", learning_rate=1.0, weight_decay=1e9, epochs=3)
    assert ended.value.code == 2 and files() == {}
    message = refusal(capsys)
    assert "reference step 3: a loss or gradient is not finite" in message
    assert "lower reference.learning_rate or use model.dtype float32" in message


def test_modules_that_the_model_lacks_are_named_where_they_stand(stage, capsys):
    lora = {"r": 2, "alpha": 2, "dropout": 0.0, "target_modules": ["spleen"]}
    with pytest.raises(SystemExit):
        stage(kind="adapter", lora=lora)
    assert "reference.lora.target_modules: the model has no module ['spleen']" in refusal(capsys)


class TestOfAnEncoderDecoder:
    @pytest.fixture
    def tiny(self):
        return T5

    @pytest.mark.parametrize("kind", ["adapter", "full"])
    def test_the_same_parameters_give_the_same_bytes(self, stage, kind):
        found = []
        for _ in range(2):
            stage(kind=kind, epochs=1)
            found.append(files())
        assert found[0] == found[1]

    def test_bfloat16_is_trained_in_float32_and_kept_as_it_is_used(self, tiny, stage):
        stage(kind="full", epochs=10, model={"dtype": "bfloat16"})
        section = tiny.model().model_copy(update={"dtype": "bfloat16"})
        assert {item.dtype for item in loading.load_start(NAME, SEED, section).parameters()} == {torch.bfloat16}
        assert train()["last"]["policy/loss"] < 0.5, "in bfloat16 most of an update is rounded away"
