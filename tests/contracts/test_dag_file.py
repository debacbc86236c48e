"""dvc.yaml says what the code does: parameters, code and paths of every stage."""

import ast
import re
from contextlib import chdir
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from pipeline.apps import dag
from pipeline.methods import METHODS

STAGES = ("download", "format", "judge", "reference", "preferences", "train", "complete", "score", "probe", "evaluate")


@pytest.fixture(scope="module", autouse=True)
def _at_the_root(root):
    with chdir(root):
        yield


NAMED = {**dag.NAMED, "pipeline.methods.METHODS": [f"pipeline.methods.{name}" for name in METHODS]}


def reached(imports, stage: str) -> set[str]:
    """Return the modules that a stage is rerun for."""
    return imports.reached(f"stages.{stage}", NAMED, dag.EXEMPT.keys())


def sections_read(imports, stage: str) -> set[str]:
    """Return each section S of a `settings.S` in the stage's file, or in a module that it hands all settings to."""
    trees = [imports.trees[f"stages.{stage}"]]
    calls = (node for node in ast.walk(trees[0]) if isinstance(node, ast.Call))
    if any(is_settings(argument) for call in calls for argument in call.args):
        trees += [imports.trees[module] for module in reached(imports, stage)]
    attributes = (node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Attribute))
    return {node.attr for node in attributes if is_settings(node.value)}


def is_settings(node: ast.AST) -> bool:
    return ast.unparse(node).split(".")[-1] == "settings"


def test_the_file_is_what_the_stages_and_their_imports_make_it(root):
    assert (root / "dvc.yaml").read_text(encoding="utf-8") == dag.dag(), "run `make dag`"


def test_a_stage_is_one_file(imports):
    assert {name for name in imports.files if name.startswith("stages.")} == {f"stages.{stage}" for stage in STAGES}


@pytest.mark.parametrize("stage", STAGES)
def test_the_sections_a_stage_reads_are_its_params(stage, imports):
    declared = {section.partition(".")[0] for section in import_module(f"stages.{stage}").NODE.sections}
    assert sections_read(imports, stage) == declared


@pytest.mark.parametrize("stage", sorted({*STAGES} - {"judge"}))
def test_tuning_the_judge_trains_nothing_again(stage, imports):
    assert not reached(imports, stage) & {"pipeline.scorers.fitting", "pipeline.scorers.cards"}


def test_a_training_is_rerun_for_its_own_method_alone(entries):
    for name in METHODS:
        rooms = {dep for dep in entries[f"train_{name}"].deps for other in METHODS if f"methods/{other}" in dep}
        assert rooms and all(f"pipeline/methods/{name}" in dep for dep in rooms)


def test_all_that_a_stage_reaches_is_a_dependency_of_a_stage_or_exempt_with_a_reason(imports):
    dependencies = {module for stage in STAGES for module in reached(imports, stage)}
    everything = {module for stage in STAGES for module in imports.reached(f"stages.{stage}", NAMED, ())}
    assert everything - dependencies == {module for module in dag.EXEMPT if imports.has_code(module)}


def test_what_writes_rounds_or_hashes_is_not_exempt():
    assert not set(dag.EXEMPT) & {f"pipeline.io.{name}" for name in ("atomic", "records", "hashing")}


def test_whoever_loads_the_policy_is_rerun_for_its_libraries(entries):
    loading = {name for name, entry in entries.items() if "env.json" in entry.deps}
    assert loading >= {"reference", "preferences", "complete", "probe", *(f"train_{name}" for name in METHODS)}
    assert not loading & {"download", "format", "judge", "evaluate"}


def test_what_a_stage_reads_exists_or_is_written_by_another(entries, root):
    written = {Path(out) for entry in entries.values() for out in entry.outs}
    # evaluate reads the folders of what these three write
    written |= {Path(out).parents[1] for name in ("complete", "score", "probe") for out in entries[name].outs}
    read = {Path(dep) for entry in entries.values() for dep in entry.deps}
    assert {path for path in read - written if not (root / path).exists()} == set()


def test_metrics_and_plots_are_in_git_and_everything_else_in_the_cache(root):
    for name, raw in yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8"))["stages"].items():
        stage = raw.get("do", raw)
        in_git = [flags for kind in ("metrics", "plots") for entry in stage.get(kind, []) for flags in entry.values()]
        assert all(flags["cache"] is False for flags in in_git), f"{name}: expected `cache: false`"
        # `cache: false` on `outs` would switch the stage's run cache off
        assert all(isinstance(out, str) for out in stage.get("outs", [])), f"{name}: expected plain paths under `outs`"


def test_committed_plots_have_the_columns_that_dvc_draws(root):
    for name, raw in yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8"))["stages"].items():
        for entry in raw.get("do", raw).get("plots", []):
            for spelled, flags in entry.items():
                committed = list(root.glob(re.sub(r"\$\{item\.\w+\}", "*", spelled)))
                assert committed, f"{name}: no committed plot {spelled}"
                for path in committed:
                    columns = path.read_text(encoding="utf-8").splitlines()[0].split(",")
                    assert {flags["x"], flags["y"]} <= set(columns), f"{name}: {path}"
