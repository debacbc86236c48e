"""A training whose numbers are no numbers any more ends at once, says where, and leaves the last sound adapter."""

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor

from pipeline.apps.stage import run_stage
from pipeline.data.schema import prompt_row, to_json
from pipeline.io import paths, process
from pipeline.io.errors import NotFiniteError
from pipeline.io.records import write_jsonl
from pipeline.methods.ppo.trainer import PPOTrainer
from stages import train as training_stage
from tests.methods.ppo.tiny_ppo import HARSH, PROMPTS, SETTINGS, adapter_of, prompts, reward_of, section
from tests.methods.trainings import train
from tests.policy import tiny_llama
from tests.smoke import workspace

ONE_UPDATE = {"epochs": 1, "minibatch_size": 16}


class Training:
    """A training that is watched: the adapter at the start of every step, and a fault at a step of choice."""

    def __init__(self, policy: Any, fault: Callable[[], None] = lambda: None, at: int = 0, **changes: Any) -> None:
        self.policy, self.fault, self.at = policy, fault, at
        self.starts: list[list[Tensor]] = []
        self.ppo = section(**({"steps": 5} | changes))
        complete = policy.complete

        def look(*arguments: Any, **keywords: Any) -> Any:
            self.starts.append(adapter_of(policy))
            return complete(*arguments, **keywords)

        policy.complete = look

    def score(self, texts: Sequence[str]) -> list[float | None]:
        """Score as HARSH does; the fault comes after a rollout was sampled and before it is learned from."""
        if len(self.starts) == self.at:
            self.fault()
        return HARSH.score(texts)

    def end(self, report: Callable[..., None] = lambda *_: None) -> NotFiniteError:
        """Train until it ends, and return the error that it ends with."""
        with pytest.raises(NotFiniteError) as raised:
            train(self.policy, "ppo", prompts(), self.ppo, reward=reward_of(self.score), report=report)
        return raised.value


def check_put_back(policy: Any, start: list[Tensor]) -> None:
    """Check that the policy has this adapter again, and that tokens can be drawn from it."""
    assert all(torch.equal(now, then) for now, then in zip(adapter_of(policy), start, strict=True))
    with torch.no_grad():
        assert policy.analyze(tiny_llama.completions(6)).logprobs.isfinite().all()


def poisoned_gradient(policy: Any) -> Callable[[], None]:
    """Return what makes every gradient of one LoRA matrix NaN from now on."""
    weight = policy.trainable()["adapter"][3]
    return lambda: weight.register_hook(lambda gradient: gradient * math.nan)


def poisoned_loss(policy: Any) -> Callable[[], None]:
    """Return what makes the log-probability of one token infinite from now on, when a gradient is kept."""

    def poison() -> None:
        analyze = policy.analyze

        def analyzed(items: Any, **keywords: Any) -> Any:
            found = analyze(items, **keywords)
            found.logprobs[0, 0] = found.logprobs[0, 0] + (math.inf if torch.is_grad_enabled() else 0.0)
            return found

        policy.analyze = analyzed

    return poison


@pytest.mark.parametrize("poison", [poisoned_gradient, poisoned_loss])
def test_a_poisoned_update_puts_back_the_step_it_is_in(policy: Any, poison: Callable[[Any], Any]) -> None:
    training = Training(policy, poison(policy), at=3)
    assert re.fullmatch(
        r"ppo step 3: a loss or gradient is not finite \(prompts p\d+(, p\d+)*\); lower methods\.ppo\.learning_rate "
        r"or use model\.dtype float32; put back to step 2",
        str(training.end()),
    )
    assert len(training.starts) == 3 and not torch.equal(training.starts[2][1], training.starts[0][1])
    check_put_back(policy, training.starts[2])


def test_an_error_names_the_minibatch_it_happened_in(policy: Any) -> None:
    training = Training(policy, minibatch_size=4, micro_batch_size=4)
    poisoned_gradient(policy)()
    seen, analyze = [], policy.analyze
    policy.analyze = lambda items, **keywords: (seen.append(items), analyze(items, **keywords))[1]
    error = training.end()
    ids = list(dict.fromkeys(item.prompt.id for item in seen[-1]))
    assert len(seen[-1]) == 4 and error.prompt_ids == ids
    assert [item.id for item in prompts() if item.id in str(error)] == [item.id for item in prompts() if item.id in ids]


def breaking(weight: Tensor, at: int) -> Callable[..., None]:
    """Return a report that makes a weight NaN once it hears of a step."""
    return lambda step, _: weight.data.fill_(math.nan) if step == at else None


def test_weights_that_break_between_steps_are_found_by_sampling(policy: Any) -> None:
    """What comes back is what could be sampled from before."""
    training = Training(policy)
    error = training.end(breaking(policy.trainable()["adapter"][0], at=2))
    assert str(error).startswith("ppo step 3: the policy's logits are not finite; lower methods.ppo.learning_rate")
    assert str(error).endswith("put back to step 1")
    check_put_back(policy, training.starts[1])


def test_a_value_head_that_breaks_is_found_before_it_is_learned_from(policy: Any) -> None:
    training = Training(policy)
    error = training.end(breaking(policy.value_head.linear.weight, at=1))
    assert str(error).startswith("ppo step 2: a loss or gradient is not finite")
    check_put_back(policy, training.starts[0])
    assert policy.value_head.linear.weight.isfinite().all()


@pytest.fixture
def absurd(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the learning rate be 1e30: an update moves every weight by about as much, and the logits are no float32."""
    monkeypatch.setattr(PPOTrainer, "_learning_rate_factor", lambda self, step: 1e30)


@pytest.mark.usefixtures("absurd")
@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("updates", [{}, ONE_UPDATE], ids=["several updates a step", "one update a step"])
def test_an_absurd_learning_rate_ends_the_training(policy: Any, steps: int, updates: dict[str, Any]) -> None:
    training = Training(policy, **updates, learning_rate=1.0, steps=steps)
    error = training.end()
    assert "learning_rate" in str(error) and "put back to step 0" in str(error)
    assert all(name in str(error) for name in error.prompt_ids)
    check_put_back(policy, training.starts[0])


@pytest.fixture
def stage(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return the entry point of the stage `train_ppo` of the experiment `exp`, whose inputs are all there."""
    monkeypatch.setenv("TRACKING", "off")
    for name in ("die_with_parent", "terminate_as_exit"):  # they are for a process of its own
        monkeypatch.setattr(process, name, lambda: None)
    for split in ("train", "dev"):
        rows = [to_json(prompt_row(item.text)) for item in tiny_llama.prompts(PROMPTS)]
        write_jsonl(paths.formatted(tiny_llama.NAME, split), rows)
    return lambda **changes: enter(changes)


def enter(changes: dict[str, Any]) -> None:
    """Run the stage with SETTINGS and these changes to `ppo`."""
    parameters = yaml.safe_load((tiny_llama.ROOT / "experiments" / "smollm2-rtp.yaml").read_text())
    for name in ("scorers", "judge", "reward", "score", "probe", "evaluate"):
        workspace.change(parameters, {name: workspace.SECTIONS[name]})
    workspace.change(parameters, {"ppo": SETTINGS | {"steps": 3} | changes, "lora": {"r": 4, "alpha": 8}})
    path = paths.experiment_file(tiny_llama.NAME)
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(parameters))
    arguments = [tiny_llama.NAME, str(tiny_llama.SEED), "ppo"]
    run_stage("train", training_stage.NODE, training_stage.main, None, arguments, continues=True)


def outputs() -> list[Path]:
    """Return the files that DVC would take for results of the stage."""
    place = (tiny_llama.NAME, tiny_llama.SEED, "ppo")
    adapter = paths.adapter(*place)
    files = [paths.metrics(tiny_llama.NAME, "ppo", tiny_llama.SEED), paths.curves(*place)]
    return [*sorted(adapter.rglob("*")), *(path for path in files if path.exists())]


@pytest.mark.usefixtures("absurd")
@pytest.mark.parametrize("steps", [1, 3])
def test_the_stage_leaves_the_last_good_adapter_and_no_result(
    stage: Callable[..., None], steps: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        stage(**ONE_UPDATE, learning_rate=1.0, steps=steps)
    kept = paths.last_good_adapter(tiny_llama.NAME, tiny_llama.SEED, "ppo")
    assert ended.value.code == 2 and outputs() == [] and not list(Path().rglob("*.tmp"))
    (message,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("train_ppo:")]
    assert "ppo step" in message and f"its adapter is kept in {kept}" in message
    weights = load_file(kept / "adapter_model.safetensors")
    assert weights and all(value.isfinite().all() for value in weights.values())
    paths.adapter(tiny_llama.NAME, tiny_llama.SEED, "ppo").parent.mkdir(parents=True, exist_ok=True)
    kept.rename(paths.adapter(tiny_llama.NAME, tiny_llama.SEED, "ppo"))
    assert tiny_llama.load("ppo").analyze(tiny_llama.completions(6)).logprobs.isfinite().all()


def test_a_policy_that_cannot_be_checked_leaves_no_result(stage: Callable[..., None]) -> None:
    paths.formatted(tiny_llama.NAME, "dev").unlink()
    with pytest.raises(SystemExit) as ended:
        stage(steps=1)
    assert ended.value.code == 2 and outputs() == []


def test_the_stage_writes_its_results_where_nothing_breaks(stage: Callable[..., None]) -> None:
    stage()
    assert {path.name for path in outputs()} == {
        "adapter_config.json", "adapter_model.safetensors", "ppo.csv", "ppo.json"
    }  # fmt: skip
    assert not paths.last_good_adapter(tiny_llama.NAME, tiny_llama.SEED, "ppo").exists()
