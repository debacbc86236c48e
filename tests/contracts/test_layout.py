"""The house rules of the layout: where things may be imported, decided and spelled."""

import ast
import re

import pytest

# From the bottom up: a module may import what stands in a line above its own. Rooms of one line may import each other
# where it says True; the methods and evaluation are siblings that may not.
LEVELS = [
    (
        {"errors", "atomic", "paths", "records", "masking", "process", "config", "fingerprint", "machine", "streams"}
        | {"arguments"},
        True,
    ),
    (
        {"sources", "models", "roles", "merging", "data", "pairs", "examples", "rouge", "packing", "curves", "scorers"}
        | {"judge", "environment", "quantization", "recomputation"}
        | {"identity", "fluency", "base_files", "adapter_files", "checkpoints", "checkpoint_key", "optimizer_state"},
        True,
    ),
    (
        {"projection", "model_card", "tracking", "tracking_champion", "tracking_run", "tracking_store"}
        | {"tracking_continued", "tracking_unfinished", "tracking_uri"},
        True,
    ),
    ({"policy"}, False),
    ({"sft", "dpo", "ppo", "preferences", "dataset_pairs", "polarity", "training", "evaluation"}, False),
    ({"report"}, False),
    ({"plan"}, False),
    ({"stage", "track", "roster", "clean", "diff", "export", "verify"}, False),
]
LEVEL = {room: level for level, (rooms, _) in enumerate(LEVELS) for room in rooms}
SEAMS = (
    "pipeline.policy.loading",
    "pipeline.config",
    "pipeline.policy.making",
    "pipeline.methods.sft",
    "pipeline.methods.dpo",
)
ARCHITECTURE = re.compile(r"""["']seq2seq["']|is_encoder_decoder|architecture\s*(==|!=|in\b)""")
ONLY_THERE = {"mlflow": {f"pipeline.tracking_{part}" for part in ("champion", "continued", "store", "unfinished")}}
BLIND_PPO = {"transformers", "peft", "mlflow", "trl"}
# Deserializers that can run code, and who may use one: with the reason.
UNPICKLERS = re.compile(r"^(pickle|joblib|dill|cloudpickle|shelve|marshal|profanity_check)(\.|$)")
MAY_UNPICKLE = {
    "pipeline.scorers.loading.profanity_check": "its joblib files must have the sha256 that the experiment pins"
}
LONGEST = 300


def room(module: str) -> str | None:
    """Return the part of `pipeline` that a module belongs to, None for the package itself."""
    parts = module.split(".")
    return parts[1] if parts[0] == "pipeline" and len(parts) > 1 else None


def test_every_room_has_a_level(imports):
    rooms = {room(module) for module in imports.files if module.startswith("pipeline.")}
    assert rooms <= set(LEVEL), f"give a level in this file to: {sorted(rooms - set(LEVEL))}"


def test_no_import_goes_upward(imports):
    wrong = []
    for module, imported in imports.direct.items():
        importer = room(module)
        for other in imported:
            target = room(other)
            if other.split(".")[0] == "stages" and module.split(".")[0] == "pipeline":
                wrong.append(f"{module} imports {other}: pipeline/ never imports stages/")
            if importer is None or target is None or importer == target:
                continue
            level = LEVEL[importer]
            if LEVEL[target] > level or (LEVEL[target] == level and not LEVELS[level][1]):
                wrong.append(f"{module} (level {level}) imports {other} (level {LEVEL[target]})")
    assert not wrong, "\n".join(sorted(wrong))


def test_there_are_no_circles_among_rooms(imports):
    edges: dict[str, set[str]] = {}
    for module, imported in imports.direct.items():
        importer = room(module)
        if importer is not None:
            edges.setdefault(importer, set()).update(target for other in imported if (target := room(other)))
    for start in edges:
        seen: set[str] = set()
        todo = list(edges[start] - {start})
        while todo:
            seen.add(current := todo.pop())
            todo += edges.get(current, set()) - seen - {current}
        assert start not in seen, f"pipeline/{start} imports itself by way of {sorted(seen)}"


def test_stages_do_not_import_each_other(imports):
    for module, imported in imports.direct.items():
        if module.startswith("stages."):
            assert {other for other in imported if other.startswith("stages.")} == set(), module


@pytest.mark.parametrize("library", sorted(ONLY_THERE))
def test_a_library_behind_one_door_is_imported_only_there(library, imports):
    users = {module for module in imports.files if any(n.split(".")[0] == library for n in imports.names(module))}
    assert users <= ONLY_THERE[library]


def test_ppo_is_blind_to_architecture_and_its_libraries(imports):
    for module in imports.files:
        if module.startswith("pipeline.methods.ppo"):
            libraries = {name.split(".")[0] for name in imports.names(module)}
            assert not libraries & BLIND_PPO, f"{module} imports {sorted(libraries & BLIND_PPO)}"


def test_architecture_is_decided_at_the_seams_only(imports):
    wrong = [
        f"{path}:{number}: {line.strip()}"
        for module, path in imports.files.items()
        if module not in SEAMS and not module.startswith("pipeline.config.")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if ARCHITECTURE.search(line)
    ]
    assert not wrong, "\n".join(wrong)


def test_output_folders_are_spelled_in_paths_only(imports):
    spelled = re.compile(r"""["'](data|models|adapters|completions|scores|metrics|plots|checkpoints)/""")
    for module, path in imports.files.items():
        if module != "pipeline.io.paths":
            found = spelled.findall(path.read_text(encoding="utf-8"))
            # files inside a wheel are pinned by such names too, in experiment files, not in code
            assert not found, f"{path}: spells a path below {sorted(set(found))}; ask pipeline/io/paths.py"


def test_no_file_is_longer_than_a_room(root):
    files = [path for top in ("pipeline", "stages", "tests", "benchmarks") for path in (root / top).rglob("*.py")]
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    assert {str(path): length for path, length in lengths.items() if length > LONGEST} == {}


def test_no_room_is_without_a_noun(root):
    names = {path.stem for top in ("pipeline", "stages", "tests") for path in (root / top).rglob("*.py")}
    assert names & {"utils", "common", "base", "helpers", "misc"} == set()


def test_nothing_downloaded_is_executed(imports):
    unpicklers = {module for module in imports.files if any(map(UNPICKLERS.match, imports.names(module)))}
    assert unpicklers == set(MAY_UNPICKLE)
    for module, tree in imports.trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                where = f"{module}:{node.lineno}"
                assert given.get("trust_remote_code", "False") == "False", where
                assert given.get("allow_pickle", "False") == "False", where
                assert ast.unparse(node.func) != "torch.load" or given.get("weights_only") == "True", where
                assert ast.unparse(node.func) not in ("yaml.unsafe_load", "yaml.full_load", "eval", "exec"), where
