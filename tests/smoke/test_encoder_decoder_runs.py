"""One real `dvc repro` of each encoder-decoder experiment on tiny parts: what is true of a run, whatever was learnt."""

import csv
import json
import math
import statistics
from collections.abc import Iterator
from contextlib import chdir
from typing import Any

import pytest

from pipeline.io import paths
from pipeline.io.hashing import file_digest
from pipeline.tracking.description import read_curves
from tests.smoke import store
from tests.smoke.conftest import WholeRun
from tests.smoke.store import SeenRun
from tests.smoke.workspace import POLICIES, executed, stages

METHODS = POLICIES[1:]
JUDGED = [f"{stage}-{policy}" for stage in ("complete", "probe", "score") for policy in POLICIES]
NAMES = {"download", "format", "judge", "reference", "preferences", *METHODS, *JUDGED, "evaluate"}
ROUGE = ("rouge_1", "rouge_2", "rouge_l")
RUNS = ["dialogsum_run", "rewrite_run"]
pytestmark = pytest.mark.slow


@pytest.fixture(params=RUNS)
def run(request: pytest.FixtureRequest) -> WholeRun:
    """Return one of the runs after the other."""
    found: WholeRun = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def seen(run: WholeRun) -> dict[str, SeenRun]:
    """Return every MLflow run by its name."""
    return store.by_name(run.runs)


def evaluated(run: WholeRun) -> Any:
    return run.workspace.load(str(paths.metrics(run.experiment, "evaluation")))


def lines(run: WholeRun, path: Any) -> Iterator[dict[str, Any]]:
    yield from map(json.loads, (run.workspace.root / path).read_text(encoding="utf-8").splitlines())


def test_every_stage_ran_once(run: WholeRun) -> None:
    assert sorted(run.executed) == sorted(stages(experiment=run.experiment))


def test_a_second_repro_runs_nothing(run: WholeRun) -> None:
    before = run.workspace.outputs()
    assert executed(run.workspace.dvc("repro")) == []
    assert run.workspace.outputs() == before
    assert json.loads(run.workspace.dvc("status", "--json")) == {}
    assert run.workspace.git("status", "--porcelain") == ""


def test_every_policy_is_another_one(run: WholeRun) -> None:
    root = run.workspace.root
    weights = [root / paths.adapter(run.experiment, 0, method) / "adapter_model.safetensors" for method in METHODS]
    weights += (root / paths.adapter(run.experiment, 0, "reference")).glob("*.safetensors")
    assert len(weights) == len({file_digest(path) for path in weights}) == len(POLICIES)
    files = [paths.completions(run.experiment, 0, policy) for policy in POLICIES]
    assert len({file_digest(root / path) for path in files}) == len(POLICIES)


def test_every_method_starts_from_the_reference(run: WholeRun) -> None:
    """Before its first update: KL is 0, and DPO's loss is that of two policies that agree."""
    curves = {
        method: read_curves(run.workspace.root / paths.curves(run.experiment, 0, method)) for method in ("ppo", "dpo")
    }
    first = {name: points[min(points)] for name, points in curves["ppo"].items()}
    assert first["objective/kl"] == pytest.approx(0, abs=1e-5)
    losses = curves["dpo"]["policy/loss"]
    assert losses[min(losses)] == pytest.approx(math.log(2), abs=1e-5)
    for policy in METHODS:
        assert evaluated(run)[policy]["guards"]["kl"] > 0
    manifest = run.workspace.load(str(paths.adapter(run.experiment, 0, "reference") / "manifest.json"))
    # An adapter is read twice, as policy and as reference; all else is one reading, compared with itself.
    tolerance = 1e-5 if manifest["kind"] == "adapter" else 0
    assert abs(evaluated(run)["reference"]["guards"]["kl"]) <= tolerance


def test_a_fresh_policy_says_what_the_reference_says(run: WholeRun) -> None:
    from pipeline.config.loader import load
    from pipeline.data.schema import read_prompts
    from pipeline.policy import loading
    from pipeline.policy.making import make_policy
    from pipeline.policy.prompts import tokenize_prompts
    from pipeline.policy.types import Decoding

    with chdir(run.workspace.root):
        settings, dev = load(run.experiment, ("model", "lora")), paths.formatted(run.experiment, "dev")
        tokenizer = loading.load_tokenizer(run.experiment)
        fresh = loading.new_policy_model(run.experiment, 0, settings.model, settings.lora).eval()
        policy = make_policy(settings.model.architecture, fresh, tokenizer)
        prompts = tokenize_prompts(read_prompts(dev)[:4], tokenizer, settings.model, dev)
        completions = policy.complete(prompts, Decoding(max_new_tokens=8), samples=1, seed=0, batch_size=4)
        own = policy.analyze(completions)
        with policy.acting_as("reference"):
            reference = policy.analyze(completions)
        base = make_policy(settings.model.architecture, loading.load_base(run.experiment, settings.model), tokenizer)
        untrained = base.analyze(completions)
    assert own.logprobs.allclose(reference.logprobs, atol=1e-5)
    assert not own.logprobs.allclose(untrained.logprobs, atol=1e-2), "the reference was trained"


def test_judges_read_the_completion_alone(run: WholeRun) -> None:
    from pipeline.config.loader import load
    from pipeline.scorers.loading import load_judges

    completions = list(lines(run, paths.completions(run.experiment, 0, "ppo")))
    told = {(row["prompt_id"], row["sample"]): row["completion"] for row in completions}
    rows = [row for row in lines(run, paths.scores(run.experiment, 0, "ppo")) if "judge" in row]
    with chdir(run.workspace.root):
        settings = load(run.experiment, ("reward", "scorers", "score"))
        judges = load_judges(settings.score.judges, settings.reward, settings.scorers, run.experiment)
        for judge in judges:
            mine = [row for row in rows if row["judge"] == judge.name]
            texts = [told[row["prompt_id"], row["sample"]] for row in mine]
            assert [row["toxicity"] for row in mine] == pytest.approx(judge.score(texts), abs=1e-5)
            assert [row["cut"] for row in mine] == judge.cut(texts)
    assert len(rows) == len(judges) * len(completions)


def test_rouge_and_perplexity_are_guards_of_every_policy(run: WholeRun) -> None:
    evaluation = evaluated(run)
    for policy in POLICIES:
        guards = evaluation[policy]["guards"]
        assert all(0 <= guards[name] <= 1 for name in ROUGE), policy
        assert guards["perplexity_median"] > 1
    rows = list(lines(run, paths.scores(run.experiment, 0, "reference")))
    likely = [row for row in rows if row.get("model") == "fluency"]
    assert len(likely) == len(list(lines(run, paths.completions(run.experiment, 0, "reference"))))
    surprises = [-row["logprob"] / row["tokens"] for row in likely if row["tokens"]]
    median = evaluation["reference"]["guards"]["perplexity_median"]
    assert statistics.median(map(math.exp, surprises)) == pytest.approx(median, rel=1e-4)


def test_the_dev_check_of_the_reference_tells_its_rouge(run: WholeRun) -> None:
    metrics = run.workspace.load(str(paths.metrics(run.experiment, "reference", 0)))
    assert 0 <= metrics["dev"]["rouge_l"] <= 1
    assert metrics["train"]["examples"] > 0


def test_before_and_after_are_told_of_every_method(run: WholeRun) -> None:
    evaluation = evaluated(run)
    primary = evaluation["meta"]["primary_judge"]
    for policy in POLICIES:
        told = evaluation[policy]["before_after"][primary]
        assert told["toxicity_mean"] == evaluation[policy]["judges"][primary]["toxicity_mean"]["value"]
        assert told["toxicity_sd"] >= 0
        assert ("change_percent" in told) == (policy != "reference")
    table = run.workspace.root / "reports" / run.experiment / "before_after.csv"
    with table.open(encoding="utf-8", newline="") as file:
        assert len(list(csv.DictReader(file))) == len(METHODS) * evaluation["meta"]["prompts"]


def test_mlflow_holds_a_finished_run_of_every_stage(run: WholeRun, seen: dict[str, SeenRun]) -> None:
    assert set(seen) == NAMES
    assert {one.status for one in run.runs} == {"FINISHED"}


@pytest.mark.parametrize("policy", POLICIES)
def test_curves_are_in_the_run_that_made_them(policy: str, run: WholeRun, seen: dict[str, SeenRun]) -> None:
    own = paths.reference_curves(run.experiment, 0)
    curves = read_curves(
        run.workspace.root / (own if policy == "reference" else paths.curves(run.experiment, 0, policy))
    )
    assert len(curves["policy/loss"]) > 2
    assert {name: points for name, points in seen[policy].history.items() if name in curves} == curves
    judge = evaluated(run)["meta"]["primary_judge"]
    assert f"evaluation/{judge}/toxicity_mean" in seen[policy].history


def test_tracking_again_adds_nothing_and_an_empty_store_is_filled(
    run: WholeRun, seen: dict[str, SeenRun], tmp_path_factory: pytest.TempPathFactory
) -> None:
    printed = run.workspace.python("pipeline.apps.track").splitlines()
    assert [line for line in printed if not line.endswith(": present")] == []
    fresh = f"sqlite:///{tmp_path_factory.mktemp('fresh')}/fresh.db"
    run.workspace.python("pipeline.apps.track", MLFLOW_TRACKING_URI=fresh)
    rebuilt = store.by_name(store.runs(fresh, run.experiment))
    assert set(rebuilt) == NAMES - {"download", *JUDGED}
    for name, one in rebuilt.items():
        assert one.lasting() == seen[name].lasting(), name


def test_a_method_is_exported_whole(run: WholeRun) -> None:
    """The export loads what it wrote and compares logits itself."""
    printed = run.workspace.python("pipeline.apps.export", run.experiment, "ppo", "--output", "exported")
    assert "checked: loaded again" in printed


def test_no_output_is_a_pickle_but_what_was_pinned(run: WholeRun) -> None:
    pickles = [path for path in run.workspace.outputs() if path.endswith((".bin", ".pt", ".pkl", ".pickle", ".ckpt"))]
    assert [path for path in pickles if not path.startswith("models/") or "/checkpoint/" not in path] == []
