"""`make clean` removes outputs that no roster names, and only outputs."""

from pathlib import Path

import pytest
import yaml

from pipeline.apps import clean
from pipeline.io import paths
from tests.smoke import workspace


@pytest.fixture
def repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(workspace.roster(["kept"], methods=["sft"]), sort_keys=False))
    return tmp_path


def place(path: Path) -> Path:
    file = path if path.suffix else path / "content"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("x")
    return path


def outputs(experiment: str, seed: int, policy: str) -> list[Path]:
    return [
        paths.raw(experiment),
        paths.base_model(experiment),
        paths.scorers(experiment),
        paths.judge(experiment),
        paths.fluency(experiment),
        *(paths.formatted(experiment, split) for split in ("demonstrations", "train", "dev", "eval")),
        paths.preferences(experiment, seed),
        paths.adapter(experiment, seed, policy),
        paths.checkpoints(experiment, seed, policy),
        paths.completions(experiment, seed, policy),
        paths.scores(experiment, seed, policy),
    ]


def test_everything_of_a_named_entry_stays(repository):
    kept = [place(path) for path in outputs("kept", 0, "sft")]
    clean.main([])
    assert all(path.exists() for path in kept)


def test_everything_of_an_unnamed_experiment_goes_with_its_empty_folders(repository, capsys):
    gone = [place(path) for path in outputs("dropped", 0, "sft")]
    clean.main([])
    assert not any(path.exists() for path in gone)
    assert not any(Path(path.parts[0], "dropped").exists() for path in gone)
    printed = capsys.readouterr().out
    assert all(f"removed {path}\n" in printed for path in gone)


def test_an_unnamed_seed_or_policy_goes_alone(repository):
    other_seed = [place(path) for path in (paths.scores("kept", 1, "sft"), paths.adapter("kept", 1, "sft"))]
    # a method that the experiment does not name is neither trained nor judged
    other_policy = [place(path) for path in (paths.completions("kept", 0, "ppo"), paths.adapter("kept", 0, "ppo"))]
    stay = [place(path) for policy in ("reference", "sft") for path in outputs("kept", 0, policy)]
    clean.main([])
    assert not any(path.exists() for path in (*other_seed, *other_policy))
    assert all(path.exists() for path in stay)


def test_metrics_plots_and_files_that_are_no_outputs_stay(repository):
    mine = [Path("data/mine.jsonl"), Path("data/corpus/rows.jsonl"), Path("models/notes.md")]
    in_git = [paths.metrics("dropped", "evaluation"), paths.curves("dropped", 0, "sft")]
    stay = [place(path) for path in (*mine, *in_git)]
    clean.main([])
    assert all(path.exists() for path in stay)


def test_a_link_is_removed_and_not_what_it_points_to(repository, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "weights").write_text("x")
    link = paths.base_model("dropped")
    link.parent.mkdir(parents=True)
    link.symlink_to(elsewhere)
    clean.main([])
    assert not link.is_symlink()
    assert (elsewhere / "weights").exists()


def test_an_experiment_that_is_not_spelled_out_yet_loses_nothing(repository, capsys):
    kept = [place(path) for path in outputs("kept", 0, "sft")]
    params = repository / "params.yaml"
    params.write_text(yaml.safe_dump(yaml.safe_load(params.read_text()) | {"policies": {}}))
    with pytest.raises(SystemExit, match="2"):
        clean.main([])
    assert "policies: expected entries of kept, got none; run `make dag`" in capsys.readouterr().err
    assert all(path.exists() for path in kept)


def test_a_broken_roster_removes_nothing(repository, capsys):
    (repository / "params.yaml").write_text("experiments: []\n")
    stays = place(paths.raw("dropped"))
    with pytest.raises(SystemExit) as exit_:
        clean.main([])
    assert exit_.value.code == 2
    assert "params.yaml" in capsys.readouterr().err
    assert stays.exists()
