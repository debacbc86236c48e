"""The stage `probe`: every policy is shown the same texts; bad input leaves no file."""

import pytest
import torch
import yaml

from pipeline.apps.stage import Stage
from pipeline.config.loader import load
from pipeline.io import paths
from pipeline.io.errors import UserError
from pipeline.io.records import read_jsonl, write_jsonl
from pipeline.policy import loading
from pipeline.tracking.recording import NullRun
from tests.policy import tiny_llama

IDENTITY = {"terms": ["old", "young"], "templates": ["the {term} farmer sings"]}
TASKS = {"tale": {"file": "tale.jsonl", "layout": "endings", "questions": 2}}
ENDINGS = [
    {"question": question, "answer": ["and sleeps", "but never sings gladly"]}
    for question in ("the sailor walks from the house", "a bird", "the cat reads", "a quiet village")
]


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """Make the experiment `exp` with a base, a trained adapter `sft` and four questions."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEVICE", "cpu")
    tiny_llama.write_base()
    trained = tiny_llama.new_policy()
    tiny_llama.perturb(trained.model)
    loading.save_adapter(trained.model, "exp", 0, "sft")
    file = yaml.safe_load((tiny_llama.ROOT / "experiments" / "smollm2-rtp.yaml").read_text(encoding="utf-8"))
    file |= {"identity": IDENTITY, "probe": {"tasks": TASKS, "batch_size": 4, "seed": 0}}
    file["evaluate"]["guards"] = {}
    paths.experiment_file("exp").parent.mkdir()
    paths.experiment_file("exp").write_text(yaml.safe_dump(file), encoding="utf-8")
    write_jsonl(paths.raw("exp") / "tale.jsonl", ENDINGS)


def run(policy):
    """Run the stage and return the rows that it wrote."""
    from stages.probe import NODE, main

    main(Stage("probe", "exp", load("exp", NODE.sections), NullRun(), 0, policy=policy))
    return read_jsonl(paths.probes("exp", 0, policy))


def test_policies_are_shown_the_same_texts(workplace):
    reference, trained = run("reference"), run("sft")
    assert [row | {"logprob": 0} for row in reference] == [row | {"logprob": 0} for row in trained]
    assert len({(row["probe"], row["item"]) for row in reference}) == 2 + 2  # sentences and questions
    assert all(one["logprob"] != other["logprob"] for one, other in zip(reference, trained, strict=True))


def test_it_is_the_trained_policy_that_is_asked(workplace):
    rows = [row for row in run("sft") if row["probe"] == "identity"]
    sft = tiny_llama.load("sft")
    sentences = [sft.tokenizer(f"the {term} farmer sings")["input_ids"] for term in IDENTITY["terms"]]
    with torch.no_grad():
        losses = [sft.model(input_ids=torch.tensor([ids]), labels=torch.tensor([ids])).loss.item() for ids in sentences]
    assert sorted(row["logprob"] for row in rows) == pytest.approx(sorted(-3 * loss for loss in losses), abs=1e-3)


def test_the_same_policy_writes_the_same_bytes(workplace):
    run("sft")
    first = paths.probes("exp", 0, "sft").read_bytes()
    run("sft")
    assert paths.probes("exp", 0, "sft").read_bytes() == first


def test_a_malformed_question_leaves_no_file(workplace):
    write_jsonl(paths.raw("exp") / "tale.jsonl", [*ENDINGS, {"question": "why"}])
    with pytest.raises(UserError, match=r"tale\.jsonl:5: answer"):
        run("reference")
    assert not paths.probes("exp", 0, "reference").exists()
