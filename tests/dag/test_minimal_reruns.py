"""What is rerun after a change, proven by running: the real dvc.yaml with only its commands replaced by stubs."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from pipeline.config.sections import ExperimentFile
from pipeline.methods import METHODS
from tests.smoke.workspace import with_word

EXPERIMENT = "smollm2-rtp"
FILE = f"experiments/{EXPERIMENT}.yaml"
POLICIES = ("reference", *METHODS)
TRAININGS = tuple(f"train_{method}" for method in METHODS)
JUDGED = [f"{stage}:{policy}" for stage in ("complete", "score", "probe") for policy in POLICIES]
SCORED = ["judge", *(f"score:{policy}" for policy in POLICIES), "evaluate"]
FROM_REFERENCE = ["reference", "preferences", *TRAININGS, *JUDGED, "evaluate"]
EVERYTHING = ["download", "format", "judge", *FROM_REFERENCE]


def of(*policies: str) -> list[str]:
    """Return what follows from another adapter of these policies."""
    return [*(f"{stage}:{policy}" for stage in ("complete", "score", "probe") for policy in policies), "evaluate"]


# Section of the experiment file -> what a change in it reruns, where no stage happens to write what it wrote before.
AFTER_SECTION = {
    "model": EVERYTHING,
    "data": EVERYTHING,
    "scorers": EVERYTHING,
    "fluency": EVERYTHING,  # its model is downloaded; the real download then writes all else as before
    "identity": [*SCORED, *(f"probe:{policy}" for policy in POLICIES)],
    "judge": SCORED,
    "refusal": [*SCORED, "preferences", "train_sft", "train_dpo", *of("sft", "dpo")],  # the real pairs on policy stay
    "lora": [*TRAININGS, *of("sft", "ppo", "dpo")],
    "reference": FROM_REFERENCE,
    "reward": EVERYTHING,  # its scorer is downloaded and has a judge's card
    "dev": FROM_REFERENCE,
    "preferences": ["preferences", "train_sft", "train_dpo", *of("sft", "dpo")],
    "methods.sft": ["train_sft", *of("sft")],
    "methods.ppo": ["train_ppo", *of("ppo")],
    "methods.dpo": ["train_dpo", *of("dpo")],
    "complete": [*(f"{stage}:{policy}" for stage in ("complete", "score") for policy in POLICIES), "evaluate"],
    "probe": [*(f"probe:{policy}" for policy in POLICIES), "evaluate"],
    "score": SCORED,
    "evaluate": ["evaluate"],
}
AFTER_CODE = {
    "pipeline/methods/sft": FROM_REFERENCE,  # it trains references too
    "pipeline/methods/ppo": AFTER_SECTION["methods.ppo"],
    "pipeline/methods/dpo": AFTER_SECTION["methods.dpo"],
    "pipeline/methods/__init__.py": ["evaluate"],  # policies are in its order
    "pipeline/evaluation/metrics/__init__.py": ["evaluate"],
    "pipeline/scorers/__init__.py": [],
    "pipeline/apps/plan": [],
    "pipeline/scorers/fitting.py": AFTER_SECTION["judge"],
    "pipeline/evaluation/assemble.py": AFTER_SECTION["evaluate"],
    "pipeline/evaluation/metrics/kl.py": AFTER_SECTION["evaluate"],
    "pipeline/evaluation/probe.py": AFTER_SECTION["probe"],
    "stages/score.py": [*(f"score:{policy}" for policy in POLICIES), "evaluate"],
    "pipeline/io/records.py": EVERYTHING,  # it rounds and writes
    "pipeline/io/errors.py": [],
    "pipeline/config/sections.py": [],
    "env.json": FROM_REFERENCE,
    "pipeline/tracking/store.py": [],
    "pipeline/apps/stage.py": [],
    "pipeline/apps/report": [],
}


def executions(stages: list[str], experiment: str = EXPERIMENT, seed: int = 0) -> set[str]:
    """Spell out NAME[:POLICY] as the log has it: NAME:EXPERIMENT[:SEED[:POLICY]]."""
    names = set()
    for stage in stages:
        name, _, policy = stage.partition(":")
        unseeded = name in ("download", "format", "judge", "evaluate")
        names.add(":".join([name, experiment] if unseeded else [name, experiment, str(seed), policy]).rstrip(":"))
    return names


def change_section(workspace, section: str) -> None:
    parameters = yaml.safe_load((workspace.root / FILE).read_text())
    name, _, method = section.partition(".")
    place = parameters[name][method] if method else parameters[name]
    place["value"] += 1
    workspace.edit(FILE, **parameters)


def test_the_first_run_executes_every_stage_once_and_the_second_none(workspace):
    assert workspace.first == executions(EVERYTHING)
    assert workspace.repro() == set()


def test_every_section_has_its_expectation():
    sections = {name for name in ExperimentFile.model_fields if name != "methods"}
    assert set(AFTER_SECTION) == sections | {f"methods.{method}" for method in METHODS}


@pytest.mark.parametrize("section", AFTER_SECTION)
def test_a_changed_section_reruns_what_depends_on_it(section, workspace):
    change_section(workspace, section)
    assert workspace.repro() == executions(AFTER_SECTION[section])


@pytest.mark.parametrize("path", AFTER_CODE)
def test_changed_code_reruns_the_stages_that_import_it(path, workspace):
    place = workspace.root / path
    file = min(place.glob("*.py")) if place.is_dir() else place
    file.write_text(file.read_text() + "\n")
    assert workspace.repro() == executions(AFTER_CODE[path])


def test_a_change_taken_back_reruns_nothing(workspace):
    before = (workspace.root / FILE).read_text()
    change_section(workspace, "preferences")
    workspace.repro()
    (workspace.root / FILE).write_text(before)
    assert workspace.repro() == set()


def test_a_comment_in_a_parameter_file_reruns_nothing(workspace):
    file = workspace.root / FILE
    file.write_text(file.read_text() + "# another thought\n")
    assert workspace.repro() == set()


def test_a_cascade_stops_where_a_stage_writes_what_it_wrote_before(workspace):
    workspace.keep_constant("download", "format", "judge")
    change_section(workspace, "data")
    assert workspace.repro() == executions(EVERYTHING)  # what the silenced stages write is new once
    change_section(workspace, "data")
    assert workspace.repro() == executions(["download", "format", "judge"])


def test_another_judge_trains_and_completes_nothing_again(workspace):
    workspace.keep_constant("download")
    change_section(workspace, "scorers")
    workspace.repro()  # what the silenced stage writes is new once
    change_section(workspace, "scorers")
    assert workspace.repro() == executions(["download", *SCORED])


def test_another_look_at_the_dev_prompts_makes_no_other_pairs(workspace):
    workspace.keep_constant("reference")
    change_section(workspace, "dev")
    assert workspace.repro() == executions(FROM_REFERENCE)
    change_section(workspace, "dev")
    assert workspace.repro() == executions(["reference", *TRAININGS, *of("sft", "ppo", "dpo")])


def test_another_seed_runs_alone_and_comes_back_without_a_run(workspace, monkeypatch):
    workspace.name([EXPERIMENT], [0, 1])
    assert workspace.repro() == executions(FROM_REFERENCE, seed=1)
    workspace.name([EXPERIMENT], [0])
    # the files of seed 1 still lie there, so that evaluate looks again
    assert workspace.repro() == executions(["evaluate"])
    clean(workspace, monkeypatch)
    assert not (workspace.root / "scores" / EXPERIMENT / "1").exists()
    assert workspace.repro() == set()
    workspace.name([EXPERIMENT], [0, 1])
    assert workspace.repro() == set()
    assert (workspace.root / "scores" / EXPERIMENT / "1").exists()
    workspace.name([EXPERIMENT], [0])
    clean(workspace, monkeypatch)
    assert workspace.repro() == set()


def test_a_method_less_reruns_evaluate_alone(workspace):
    before = (workspace.root / FILE).read_text()
    parameters = yaml.safe_load(before)
    del parameters["methods"]["ppo"]
    workspace.edit(FILE, **parameters)
    workspace.name([EXPERIMENT], [0])
    assert workspace.repro() == executions(["evaluate"])
    (workspace.root / FILE).write_text(before)
    workspace.name([EXPERIMENT], [0])
    assert workspace.repro() == set()


METHOD_FILE = """
from dataclasses import replace

from pipeline.methods.sft import METHOD as SFT

METHOD = replace(SFT, name="toy")
"""
METRIC_FILE = """
from dataclasses import replace

from pipeline.evaluation.metrics.kl import METRIC as KL

METRIC = replace(KL, name="toy")
"""


@contextmanager
def added(workspace, room: str, text: str) -> Iterator[None]:
    """Have a file `toy.py` in a room, and its word in the room's dict; the DAG is written anew before and after."""
    file, listed = (workspace.root / "pipeline" / room / name for name in ("toy.py", "__init__.py"))
    before = listed.read_text()
    file.write_text(text)
    listed.write_text(with_word(before, "toy"))
    workspace.write_dag()
    try:
        yield
    finally:
        file.unlink()
        listed.write_text(before)
        workspace.write_dag()


def test_a_new_metric_reruns_evaluate_alone(workspace):
    with added(workspace, "evaluation/metrics", METRIC_FILE):
        assert workspace.repro() == executions(["evaluate"])
    workspace.repro()


def test_a_new_method_trains_itself_and_reruns_nothing_else_but_evaluate(workspace, monkeypatch):
    before = (workspace.root / FILE).read_text()
    workspace.methods.append("toy")
    workspace.name([EXPERIMENT], [0])
    (workspace.root / "pipeline" / "methods" / "loop" / "helper.py").write_text("VALUE = 0\n")
    with added(workspace, "methods", "from pipeline.methods.loop import helper\n" + METHOD_FILE):
        assert workspace.repro() == executions(["evaluate"])
        parameters = yaml.safe_load(before)
        parameters["methods"]["toy"] = {"value": 0}
        workspace.edit(FILE, **parameters)
        workspace.name([EXPERIMENT], [0])
        assert workspace.repro() == executions(["train_toy", *of("toy")])
        (workspace.root / FILE).write_text(before)
        workspace.name([EXPERIMENT], [0])
    workspace.methods.remove("toy")
    workspace.name([EXPERIMENT], [0])
    assert workspace.repro() == executions(["evaluate"])  # the files of the toy still lie there
    clean(workspace, monkeypatch)
    workspace.repro()


def test_a_docstring_in_an_exempt_module_reruns_nothing_and_another_rounding_everything_that_writes(workspace):
    exempt = workspace.root / "pipeline" / "io" / "machine.py"
    exempt.write_text(exempt.read_text().replace('"""', '"""Well. ', 1))
    assert workspace.repro() == set()
    records = workspace.root / "pipeline" / "io" / "records.py"
    text = records.read_text()
    records.write_text(re.sub(r"^(DIGITS = )6", r"\g<1>5", text, flags=re.MULTILINE))
    assert records.read_text() != text
    assert workspace.repro() == executions(EVERYTHING)


def test_another_experiment_runs_alone_and_comes_back_without_a_run(workspace, monkeypatch):
    (workspace.root / "experiments" / "other.yaml").write_text((workspace.root / FILE).read_text())
    workspace.name([EXPERIMENT, "other"], [0])
    change_section(workspace, "evaluate")
    assert workspace.repro() == executions(EVERYTHING, "other") | executions(["evaluate"])
    workspace.name([EXPERIMENT], [0])
    assert workspace.repro() == set()
    clean(workspace, monkeypatch)
    assert not (workspace.root / "models" / "other").exists()
    workspace.name([EXPERIMENT, "other"], [0])
    assert workspace.repro() == set()
    assert (workspace.root / "models" / "other" / "base").is_dir()
    workspace.name([EXPERIMENT], [0])
    clean(workspace, monkeypatch)


def clean(workspace, monkeypatch) -> None:
    """Run `make clean`'s program in the workspace."""
    from pipeline.apps import clean

    with monkeypatch.context() as patched:
        patched.chdir(Path(workspace.root))
        clean.main([])
