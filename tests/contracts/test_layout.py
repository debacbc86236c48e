"""The house rules of the layout: where things may be imported, decided and spelled."""

import ast
import re
import subprocess
import sys

import pytest

from pipeline.config.declarations import rooms

# From the bottom up: a module may import what its own room or a room before it holds.
ROOMS = (
    *("io", "config", "sources", "data", "scorers", "policy", "preferences", "methods"),
    *("evaluation", "tracking", "apps"),
)
ARCHITECTURE = re.compile(r"""["']seq2seq["']|is_encoder_decoder|architecture\s*(==|!=|in\b)""")
ONLY_THERE = {"mlflow": {f"pipeline.tracking.{part}" for part in ("recording", "registry", "store")}}
MODEL_LIBRARIES = {"transformers", "peft", "mlflow", "trl"}
HEAVY = {"torch", "transformers", "trl", "peft", "mlflow", "datasets", "scipy", "sklearn", "pandas"}
# Deserializers that can run code, and who may use one: with the reason.
UNPICKLERS = re.compile(r"^(pickle|joblib|dill|cloudpickle|shelve|marshal|profanity_check)(\.|$)")
MAY_UNPICKLE = {"pipeline.scorers.profanity_check": "its joblib files must have the sha256 that the experiment pins"}


def room(module: str) -> str | None:
    """Return the room that a module belongs to, None for the package itself and for stages."""
    parts = module.split(".")
    return parts[1] if parts[0] == "pipeline" and len(parts) > 1 else None


def test_everything_stands_in_a_room(root, imports):
    assert [path.name for path in (root / "pipeline").glob("*.*")] == ["__init__.py"]
    assert {room(module) for module in imports.files} - {None} == set(ROOMS)


def test_no_import_goes_upward(imports):
    wrong = [
        f"{module} imports {other}"
        for module, imported in imports.direct.items()
        for other in imported
        if (module.startswith("pipeline") and other.split(".")[0] == "stages")
        or (room(module) and room(other) and ROOMS.index(room(other)) > ROOMS.index(room(module)))
    ]
    assert not wrong, "\n".join(sorted(wrong))


@pytest.mark.parametrize(
    ("kind", "folder"),
    [("methods", "methods"), ("scorers", "scorers"), ("datasets", "data"), ("metrics", "evaluation/metrics")],
)
def test_what_declares_itself_is_listed_by_its_own_name(kind, folder, imports):
    what = {"methods": "METHOD", "scorers": "SCORER", "datasets": "DATASET", "metrics": "METRIC"}[kind]
    package = f"pipeline.{folder.replace('/', '.')}."
    declaring = {
        module.removeprefix(package)
        for module, tree in imports.trees.items()
        if module.startswith(package)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == what
    }
    listed = getattr(rooms(), kind)
    assert set(listed) == declaring
    assert all(getattr(thing, "name", getattr(thing, "kind", None)) == word for word, thing in listed.items())


def test_reading_all_declarations_loads_no_library_of_weight(root):
    code = (
        "import sys; from pipeline.config.loader import load; load('smollm2-rtp', ()); "
        f"print(sorted({HEAVY} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_file_that_is_started_starts_at_its_end(imports):
    for module, tree in imports.trees.items():
        starts = [number for number, node in enumerate(tree.body) if "__main__" in ast.unparse(node)]
        assert starts in ([], [len(tree.body) - 1]), module


def test_stages_do_not_import_each_other(imports):
    for module, imported in imports.direct.items():
        if module.startswith("stages."):
            assert {other for other in imported if other.startswith("stages.")} == set(), module


@pytest.mark.parametrize("library", sorted(ONLY_THERE))
def test_a_library_behind_one_door_is_imported_only_there(library, imports):
    users = {module for module in imports.files if any(n.split(".")[0] == library for n in imports.names(module))}
    assert users <= ONLY_THERE[library]


def test_methods_are_blind_to_the_libraries_of_models(imports):
    for module in imports.files:
        libraries = {name.split(".")[0] for name in imports.names(module)} & MODEL_LIBRARIES
        assert room(module) != "methods" or not libraries, f"{module} imports {sorted(libraries)}"


def test_nothing_of_ours_imports_trl(imports):
    """It is what the tests compare SFT and DPO with."""
    assert not [
        module for module in imports.files if any(name.split(".")[0] == "trl" for name in imports.names(module))
    ]


def test_architecture_is_decided_behind_the_policy_alone(root, imports):
    wrong = [
        f"{path}:{number}: {line.strip()}"
        for module, path in imports.files.items()
        if room(module) not in ("config", "policy")
        for number, line in enumerate((root / path).read_text(encoding="utf-8").splitlines(), start=1)
        if ARCHITECTURE.search(line)
    ]
    assert not wrong, "\n".join(wrong)


def test_output_folders_are_spelled_in_paths_only(root, imports):
    spelled = re.compile(r"""["'](data|models|adapters|completions|scores|metrics|plots|checkpoints)/""")
    for module, path in imports.files.items():
        if module != "pipeline.io.paths":
            found = spelled.findall((root / path).read_text(encoding="utf-8"))
            # files inside a wheel are pinned by such names too, in experiment files, not in code
            assert not found, f"{path}: spells a path below {sorted(set(found))}; ask pipeline/io/paths.py"


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


def test_the_tree_in_the_readme_is_the_real_tree(root):
    tree = (root / "README.md").read_text(encoding="utf-8").partition("## The tree\n")[2].partition("\n## ")[0]
    listed = re.findall(r"^    (  )?([\w.]+/?)  ", tree, flags=re.MULTILINE)
    paths = [f"pipeline/{name}" if inside else name for inside, name in listed]
    assert [path for path in paths if not (root / path).exists() or path.endswith("/") != (root / path).is_dir()] == []
    assert tuple(name.rstrip("/") for inside, name in listed if inside) == ROOMS
    tracked = subprocess.run(["git", "ls-files"], cwd=root, capture_output=True, text=True, check=True).stdout
    folders = {line.partition("/")[0] for line in tracked.splitlines() if "/" in line and not line.startswith(".")}
    assert folders == {path.partition("/")[0] for path in paths if "/" in path}
