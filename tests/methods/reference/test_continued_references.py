"""A reference that is interrupted and continued ends with the very same bits."""

from typing import Any

import pytest
import torch

from pipeline.config.sections import AdapterReference, FullReference
from pipeline.io import paths
from pipeline.methods.sft.trainer import train_on
from pipeline.policy import loading
from pipeline.preferences.pairs import chosen
from tests.methods.reference.conftest import files, prepare, reference_section, run
from tests.methods.trainings import training_of
from tests.policy import tiny_llama
from tests.policy.tiny_model import NAME, SEED

UPDATES = 6
SECTIONS = {"adapter": AdapterReference, "full": FullReference}


class Interrupted(Exception):
    """The power is gone."""


@pytest.fixture
def train(tiny, kind, workplace):
    """Return what trains a fresh model, and gives its rows, all its weights, and the updates that were reported."""

    def learn(every: int = 0, until: int = UPDATES + 1) -> Any:
        heard: list[int] = []
        section = SECTIONS[kind].model_validate(reference_section(tiny, {"kind": kind, "epochs": 3, "batch_size": 6}))
        policy = tiny.policy_of(loading.new_reference_model(NAME, SEED, tiny.model(), section))

        def report(step: int, _: dict[str, float]) -> None:
            heard.append(step)
            if step == until:
                raise Interrupted

        checkpoints = tiny_llama.checkpoints("reference", every=every, code="this")
        training = training_of(policy, "reference", seed=SEED, checkpoints=checkpoints, report=report)
        rows = train_on(training, section, chosen(tiny_llama.pairs(12))).curves
        return rows, policy.model.state_dict(), heard

    return learn


def test_the_bits_are_those_of_a_training_that_was_not_interrupted(train):
    rows, weights, _ = train()
    with pytest.raises(Interrupted):
        train(every=1, until=4)
    torch.manual_seed(12345)  # another process has other numbers in its generators
    found, continued, heard = train(every=1)
    assert heard == list(range(4, UPDATES + 1)), "only what was lost is done again"
    assert found == rows
    assert all(torch.equal(weights[name], continued[name]) for name in weights)


@pytest.mark.slow
def test_the_stage_that_is_killed_goes_on_and_writes_the_same_files(tiny, kind, tmp_path, monkeypatch):
    written = []
    for every in ("0", "3"):
        folder = tmp_path / every
        folder.mkdir()
        prepare(tiny, folder, monkeypatch)
        monkeypatch.setenv("CHECKPOINT_EVERY", every)
        if every != "0":
            with monkeypatch.context() as patch:
                patch.setattr(loading, "write_reference", lambda *_: (_ for _ in ()).throw(Interrupted))
                with pytest.raises(Interrupted):
                    run(tiny, {}, kind=kind, epochs=2)
            assert files() == {}
            assert list(paths.checkpoints(NAME, SEED, "reference").rglob("step-*"))
        run(tiny, {}, kind=kind, epochs=2)
        written.append(files())
    assert written[0] == written[1]
