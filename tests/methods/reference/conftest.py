"""An experiment of each architecture whose reference is taught a task: to answer every prompt with one sentence."""

import shutil
from collections.abc import Callable
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.apps.stage import run_stage
from pipeline.data.schema import prompt_row, to_json
from pipeline.io import paths, process
from pipeline.io.records import write_jsonl
from stages import reference
from tests.policy.tiny_model import NAME, ROOT, SEED, TinyModel, prompts
from tests.policy.tiny_t5 import FLUENCY, T5
from tests.smoke import workspace

ANSWER = "the old silly dog sleeps under the warm table"
METRICS = "reference.json"
NOTHING = {"rouge_l": None, "toxicity_mean": None}  # that is required
TRAINING = {
    "learning_rate": 3.0e-2,
    "warmup_ratio": 0.1,
    "epochs": 20,
    "batch_size": 4,
    "gradient_accumulation": 1,
    "max_grad_norm": 1.0,
    "weight_decay": 0.0,
    "max_demonstration_tokens": 12,
    "require": NOTHING,
}


@pytest.fixture
def place(tiny: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a working directory with base and data of the experiment `exp`, and no reference yet."""
    prepare(tiny, tmp_path, monkeypatch)
    return tmp_path


@pytest.fixture(scope="session")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Callable[[TinyModel, str], Path]:
    """Return what teaches a reference of a kind its task, once, and gives the working directory afterwards."""

    @cache
    def teach(tiny: TinyModel, kind: str) -> Path:
        folder = tmp_path_factory.mktemp(f"{tiny.architecture}-{kind}")
        with pytest.MonkeyPatch.context() as patch:
            prepare(tiny, folder, patch)
            run(tiny, {}, kind=kind)
        return folder

    return teach


@pytest.fixture(params=["adapter", "full"])
def kind(request: pytest.FixtureRequest) -> str:
    """Return each kind of a reference that is trained."""
    return request.param


@pytest.fixture
def learnt(
    tiny: TinyModel,
    kind: str,
    taught: Callable[[TinyModel, str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """Make a working directory whose reference has learnt its task."""
    shutil.copytree(taught(tiny, kind), tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEVICE", "cpu")
    return tmp_path


def prepare(tiny: TinyModel, folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Lay out base and data in a folder and go there."""
    patch.chdir(folder)
    for name, value in {"DEVICE": "cpu", "TRACKING": "off", "CHECKPOINT_EVERY": "0"}.items():
        patch.setenv(name, value)
    for name in ("die_with_parent", "terminate_as_exit"):  # they are for a process of its own
        patch.setattr(process, name, lambda: None)
    tiny.write_base()
    (paths.adapter(NAME, SEED, "reference") / "manifest.json").unlink()
    write_rows({"train": (16, 0), "dev": (6, 1), "demonstrations": (0, 2)})


def write_rows(splits: dict[str, tuple[int, int]], answers: tuple[str, ...] = (ANSWER, "a bird sings")) -> None:
    """Write so many rows a split, of prompts of that seed; the second answer is compared to, and not learnt."""
    for split, (count, seed) in splits.items():
        rows = [to_json(prompt_row(item.text, demonstrations=answers)) for item in prompts(count, seed)]
        write_jsonl(paths.formatted(NAME, split), rows)


def parameters(tiny: TinyModel, changed: dict[str, Any], model: dict[str, Any]) -> dict[str, Any]:
    """Return an experiment's parameters with these changes to section `reference`."""
    found: dict[str, Any] = yaml.safe_load((ROOT / "experiments" / "smollm2-rtp.yaml").read_text())
    for name in ("scorers", "judge", "reward", "score", "probe", "evaluate"):
        workspace.change(found, {name: workspace.SECTIONS[name]})
    found["reward"]["scorer"] = {"kind": "keyword", "keywords": ["silly", "rotten"], "saturation": 1}
    found["model"] |= {"architecture": tiny.architecture} | model
    found["data"]["dataset"] = "jsonl"
    found["fluency"] = FLUENCY if tiny is T5 else {"kind": "base"}
    found["dev"] |= {"samples_per_prompt": 2, "max_new_tokens": 12, "batch_size": 12}
    found["lora"] |= {"r": 4, "alpha": 8, "target_modules": list(tiny.target_modules)}
    found["reference"] = reference_section(tiny, changed)
    # The policies' adapters are copies of the reference's. A list in two places would be written as an alias.
    found["lora"] |= deepcopy(found["reference"].get("lora", {}))
    return found


def reference_section(tiny: TinyModel, changed: dict[str, Any]) -> dict[str, Any]:
    if changed["kind"] == "base":
        return changed
    modules = ["q", "k", "v", "o", "wi_0", "wi_1", "wo"] if tiny is T5 else list(tiny.target_modules)
    lora = {"r": 8, "alpha": 16, "dropout": 0.0, "target_modules": modules}
    own = {"lora": lora} if changed["kind"] == "adapter" else {}
    return TRAINING | own | changed


@pytest.fixture
def stage(tiny: TinyModel, place: Path) -> Callable[..., None]:
    """Return the entry point of the stage `reference`; its arguments change section `reference`, `model` the model."""

    def enter(model: dict[str, Any] | None = None, **changed: Any) -> None:
        run(tiny, model or {}, **changed)

    return enter


def run(tiny: TinyModel, model: dict[str, Any], **changed: Any) -> None:
    """Run the stage with these changes to the sections `model` and `reference`."""
    path = paths.experiment_file(NAME)
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(parameters(tiny, changed, model)))
    run_stage("reference", reference.NODE, reference.main, None, [NAME, str(SEED)], reference.trains)


def files() -> dict[str, bytes]:
    """Return what lies in the reference's folder, and its metrics."""
    folder, metrics = paths.adapter(NAME, SEED, "reference"), paths.metrics(NAME, "reference", SEED)
    found = [path for path in (*folder.rglob("*"), metrics) if path.is_file()]
    return {path.name: path.read_bytes() for path in found}
