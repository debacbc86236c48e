"""A reference, or a policy on a task's reference, that is interrupted and continued ends with the very same bits."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pipeline.methods.sft.fit import fit

from pipeline.config.sections import AdapterReference, FullReference
from pipeline.io import paths
from pipeline.policy import loading
from pipeline.preferences.pairs import chosen
from tests.methods.reference.conftest import files, reference_section
from tests.policy import tiny_llama
from tests.policy.tiny_model import NAME, SEED, section

UPDATES = 6
SECTIONS = {"adapter": AdapterReference, "full": FullReference}


class Interrupted(Exception):
    """The power is gone."""


def reference_of(tiny, kind):
    settings = SECTIONS[kind].model_validate(reference_section(tiny, {"kind": kind, "epochs": 3, "batch_size": 6}))
    return loading.new_reference_model(NAME, SEED, tiny.model(), settings), settings


def policy_on_a_task(tiny, kind):
    settings = section("sft", learning_rate=1e-2, epochs=3, batch_size=3, gradient_accumulation=2)
    return tiny.new_policy().model, settings


CASES: dict[str, Callable[..., Any]] = {"adapter": reference_of, "full": reference_of, "policy": policy_on_a_task}


@pytest.fixture(params=CASES)
def case(request):
    return request.param


@pytest.fixture
def train(tiny, case, tmp_path, monkeypatch):
    """Return what trains a fresh model, and gives its rows, all its weights, and the updates that were reported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEVICE", "cpu")
    tiny.write_base()
    if case == "policy":
        tiny.write_task_reference()

    def run(every: int = 0, until: int = UPDATES + 1) -> Any:
        model, settings = CASES[case](tiny, case)
        tokenizer, heard = loading.load_tokenizer(NAME), []

        def report(step: int, _: dict[str, float]) -> None:
            heard.append(step)
            if step == until:
                raise Interrupted

        checkpoints = tiny_llama.checkpoints("reference", every=every, code="this")
        given = chosen(tiny_llama.pairs(12))
        rows = fit(tiny.architecture, model, tokenizer, given, settings, SEED, checkpoints, report)
        return rows, model.state_dict(), heard

    return run


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
@pytest.mark.parametrize("kind", ["adapter", "full"])
@pytest.mark.parametrize("architecture", ["causal", "seq2seq"])
def test_the_stage_that_is_killed_goes_on_and_writes_the_same_files(architecture, kind, tmp_path, monkeypatch):
    from tests.methods.reference.conftest import prepare, run
    from tests.policy.tiny_llama import LLAMA
    from tests.policy.tiny_t5 import T5

    tiny = {"causal": LLAMA, "seq2seq": T5}[architecture]
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
