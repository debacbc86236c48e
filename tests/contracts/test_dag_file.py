"""dvc.yaml says what the code does: parameters, code and paths of every stage."""

import ast
import re
from pathlib import Path

import pytest
import yaml

from pipeline.io import paths

# Code that a stage imports and is not rerun for, with the reason why it cannot change an output. What only these
# modules import is exempt with them.
EXEMPT = {
    "pipeline.io.errors": "one exception class; a stage that raises it writes nothing",
    "pipeline.io.paths": "names of files; dvc.yaml spells them again and the two are compared below",
    "pipeline.config": "accepts or refuses values that DVC tracks, and changes none (test_parameters.py)",
    "pipeline.io.process": "locks, signals and memory of the process",
    "pipeline.apps.stage": "arguments and exit codes; what it hands on stands in dvc.yaml as `cmd` and `params`",
    "pipeline.apps.report": "shows what evaluate wrote, beside it; a report is no output",
    "pipeline.tracking.runs": "MLflow: shows what a stage wrote; a test runs with tracking off and compares bytes",
}

SPLITS = ("demonstrations", "train", "dev", "eval")
TRAININGS = ("train_sft", "train_ppo", "train_dpo")
STAGES = (
    "download",
    "format",
    "judge",
    "reference",
    "preferences",
    *TRAININGS,
    "complete",
    "score",
    "probe",
    "evaluate",
)


def outputs(stage: str) -> set[Path]:
    """Return what a stage writes for experiment `exp`, seed 7 and policy `sft`, as pipeline/io/paths.py spells it."""
    if stage in TRAININGS:
        method = stage.removeprefix("train_")
        return {paths.adapter("exp", 7, method), paths.metrics("exp", method, 7), paths.curves("exp", 7, method)}
    return {
        "download": {
            place("exp") for place in (paths.raw, paths.base_model, paths.scorers, paths.reward, paths.fluency)
        },
        "format": {paths.metrics("exp", "format"), *(paths.formatted("exp", split) for split in SPLITS)},
        "judge": {paths.judge("exp"), paths.metrics("exp", "judge")},
        "reference": {paths.adapter("exp", 7, "reference"), paths.metrics("exp", "reference", 7)},
        "preferences": {paths.preferences("exp", 7), paths.metrics("exp", "preferences", 7)},
        "complete": {paths.completions("exp", 7, "sft")},
        "score": {paths.scores("exp", 7, "sft")},
        "probe": {paths.probes("exp", 7, "sft")},
        "evaluate": {
            paths.metrics("exp", "evaluation"),
            *(paths.plot("exp", name) for name in ("evaluation", "pareto", "scores", "categories", "prompts")),
        },
    }[stage]


def declaration(imports, stage):
    """Return the arguments of the stage file's run_stage call: its name, its axes, and the tuple SECTIONS."""
    tree = imports.trees[f"stages.{stage}"]
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "run_stage"]
    assert len(calls) == 1, f"stages/{stage}.py: expected one call of run_stage, found {len(calls)}"
    assert ast.unparse(calls[0].args[2]) == "SECTIONS", f"stages/{stage}.py: pass SECTIONS to run_stage"
    sections = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "SECTIONS"
    ]
    assert len(sections) == 1, f"stages/{stage}.py: expected one constant SECTIONS"
    return ast.literal_eval(calls[0].args[0]), ast.literal_eval(calls[0].args[1]), sections[0]


def exempt(imports) -> frozenset[str]:
    return frozenset(
        module for module in imports.files if any(module == name or module.startswith(f"{name}.") for name in EXEMPT)
    )


def needed(imports, stage: str) -> dict[str, str]:
    """Return every module that can change the stage's outputs, each with the one that imports it."""
    reached = imports.reached(f"stages.{stage}", stop=exempt(imports))
    return {f"stages.{stage}": "dvc.yaml"} | {name: by for name, by in reached.items() if imports.has_code(name)}


def covered(imports, dep: str) -> set[str]:
    """Return the modules with code that one entry of `deps`, a file or a folder, stands for."""
    return {
        module
        for module in imports.files
        if imports.has_code(module) and (imports.path(module) == dep or imports.path(module).startswith(f"{dep}/"))
    }


def sections_read(imports, stage: str) -> set[str]:
    """Return each section S of a `settings.S` in the stage's file, or in a module that it hands all settings to."""
    trees = [imports.trees[f"stages.{stage}"]]
    calls = (node for node in ast.walk(trees[0]) if isinstance(node, ast.Call))
    if any(is_settings(argument) for call in calls for argument in call.args):
        trees += [imports.trees[module] for module in needed(imports, stage)]
    attributes = (node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Attribute))
    return {node.attr for node in attributes if is_settings(node.value)}


def is_settings(node: ast.AST) -> bool:
    return ast.unparse(node).split(".")[-1] == "settings"


def test_a_stage_is_one_file_and_one_node(nodes, imports):
    assert set(nodes) == set(STAGES)
    assert {name for name in imports.files if name.startswith("stages.")} == {f"stages.{stage}" for stage in STAGES}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_is_called_with_its_own_name_and_axes(stage, nodes, imports):
    name, axes, _ = declaration(imports, stage)
    examples = {"experiment": "exp", "seed": "7", "policy": "sft"}
    assert name == stage
    assert nodes[stage].axes == tuple(axes)
    # nothing around it: a shell between DVC and the stage would survive the death of DVC
    assert nodes[stage].command == f"exec python -m stages.{stage} {' '.join(examples[axis] for axis in axes)}"


@pytest.mark.parametrize("stage", STAGES)
def test_the_sections_a_stage_reads_are_its_params(stage, nodes, imports):
    _, _, sections = declaration(imports, stage)
    assert set(nodes[stage].sections) == set(sections), (
        f"stages/{stage}.py has SECTIONS {sections}, dvc.yaml has the params {nodes[stage].sections}"
    )
    read = sections_read(imports, stage)
    assert read == set(sections), f"stages/{stage}.py reads the sections {sorted(read)} and declares {sections}"


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_is_rerun_for_the_code_it_imports(stage, nodes, imports):
    importers = needed(imports, stage)
    code = {dep: covered(imports, dep) for dep in nodes[stage].deps if dep.startswith(("pipeline", "stages"))}
    absent = importers.keys() - set().union(*code.values())
    missing = [f"{imports.path(name)} (imported by {importers[name]})" for name in absent]
    assert not missing, f"dvc.yaml, deps of {stage}: missing {', '.join(sorted(missing))}"
    unused = [dep for dep, modules in code.items() if not modules & importers.keys()]
    assert not unused, f"dvc.yaml, deps of {stage}: it imports nothing of {', '.join(unused)}"


@pytest.mark.parametrize("stage", sorted(set(STAGES) - {"judge"}))
def test_tuning_the_judge_trains_nothing_again(stage, nodes, imports):
    fitting = {module for module in imports.files if module.startswith("pipeline.judge")}
    declared = {module for dep in nodes[stage].deps for module in covered(imports, dep)}
    assert fitting
    assert not fitting & declared


def test_every_exemption_is_needed(imports):
    reached = {module for stage in STAGES for module in imports.reached(f"stages.{stage}")}
    assert set(EXEMPT) <= reached, "an exemption from `deps` that no stage needs hides a future mistake"


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_that_loads_the_policy_is_rerun_for_its_libraries(stage, nodes, imports):
    loads_policy = "pipeline.policy.loading" in needed(imports, stage)
    assert ("env.json" in nodes[stage].deps) == loads_policy


@pytest.mark.parametrize("stage", STAGES)
def test_output_paths_are_those_of_the_code(stage, nodes):
    assert {Path(out) for out in nodes[stage].outs} == outputs(stage)


@pytest.mark.parametrize("stage", STAGES)
def test_what_a_stage_reads_exists_or_is_written_by_another(stage, nodes, root):
    written = {Path(out) for node in nodes.values() for out in node.outs}
    # the adapter of the policy `sft` stands for all; evaluate reads the folders of what these three write
    folders = outputs("complete") | outputs("score") | outputs("probe")
    written |= {paths.adapter("exp", 7, "sft"), *(path.parents[1] for path in folders)}
    read = {Path(dep) for dep in nodes[stage].deps}
    assert {path for path in read - written if not (root / path).exists()} == set()


def test_metrics_and_plots_are_in_git_and_everything_else_in_the_cache(root):
    for name, stage in yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8"))["stages"].items():
        in_git = [flags for kind in ("metrics", "plots") for entry in stage.get(kind, []) for flags in entry.values()]
        assert all(flags["cache"] is False for flags in in_git), f"{name}: expected `cache: false`"
        # `cache: false` on `outs` would switch the stage's run cache off
        assert all(isinstance(out, str) for out in stage.get("outs", [])), f"{name}: expected plain paths under `outs`"


def test_committed_plots_have_the_columns_that_dvc_draws(root):
    for name, stage in yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8"))["stages"].items():
        for entry in stage.get("plots", []):
            for spelled, flags in entry.items():
                committed = list(root.glob(re.sub(r"\$\{item\.\w+\}", "*", spelled)))
                assert committed, f"{name}: no committed plot {spelled}"
                for path in committed:
                    columns = path.read_text(encoding="utf-8").splitlines()[0].split(",")
                    assert {flags["x"], flags["y"]} <= set(columns), f"{name}: {path}"
