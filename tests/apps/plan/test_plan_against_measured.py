"""The estimate against what was measured in the committed runs: results/memory/peaks.json, the kernel's own maximum."""

import json
from pathlib import Path

import pytest
from transformers import LlamaConfig

from pipeline.apps.plan import memory
from pipeline.apps.plan.shape import shape_of
from pipeline.config.loader import load

ROOT = Path(__file__).resolve().parents[3]
MEASURED = json.loads((ROOT / "results" / "memory" / "peaks.json").read_text(encoding="utf-8"))["bytes"]
SMOLLM2 = LlamaConfig(
    vocab_size=49152,
    hidden_size=576,
    intermediate_size=1536,
    num_hidden_layers=30,
    num_attention_heads=9,
    num_key_value_heads=3,
    tie_word_embeddings=True,
)


@pytest.fixture(autouse=True)
def root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def estimates(experiment: str) -> dict[str, int]:
    file = load(experiment, ()).whole
    shape = shape_of(SMOLLM2, file.model)
    assert shape.parameters == 134_515_008, "the model whose peaks were measured"
    return {stage: memory.peak(stage, experiment, file, shape, on_cuda=False).total for stage in memory.STAGES}


@pytest.mark.parametrize("experiment", ["smollm2-rtp", "smollm2-chat"])
def test_the_figure_of_an_experiment_is_within_a_quarter_of_its_measured_peak(experiment: str) -> None:
    estimated, measured = max(estimates(experiment).values()), max(MEASURED[experiment].values())
    assert estimated == pytest.approx(measured, rel=0.25)


@pytest.mark.parametrize("experiment", ["smollm2-rtp", "smollm2-chat"])
def test_so_is_that_of_every_stage_that_loads_the_policy(experiment: str) -> None:
    found = estimates(experiment)
    off = {
        stage: round(found[stage] / measured, 2)
        for stage, measured in MEASURED[experiment].items()
        if stage in found and found[stage] != pytest.approx(measured, rel=0.25)
    }
    assert off == {}
