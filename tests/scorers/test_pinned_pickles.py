"""Any pickle of alt-profanity-check's package that is not exactly the pinned one is refused before it is read."""

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import profanity_check
import pytest
import yaml

from pipeline.io.errors import UserError
from pipeline.scorers import profanity_check as ours
from pipeline.scorers.loading import load_scorer
from pipeline.scorers.profanity_check import ProfanityCheckScorer
from tests.scorers.tiny import ROOT

MODEL = "data/model.joblib"


class Trap:
    """Makes a file when its pickle is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[Path], object], tuple[Path]]:
        return Path.touch, (self.path,)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of the installed package that is checked in its place."""
    folder = Path(shutil.copytree(Path(profanity_check.__file__).parent, tmp_path / "profanity_check"))
    monkeypatch.setattr(ours, "_package_folder", lambda: folder)
    return folder


def trapped(name: str) -> Callable[[Path], object]:
    def change(package: Path) -> None:
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_bytes(pickle.dumps(Trap(package / "sprung")))

    return change


def emptied(package: Path) -> None:
    (package / MODEL).write_bytes(b"")


def one_bit(package: Path) -> None:
    content = bytearray((package / MODEL).read_bytes())
    content[-1] ^= 1
    (package / MODEL).write_bytes(content)


def exchanged(package: Path) -> None:
    other = package / "data" / "vectorizer.joblib"
    first, second = (package / MODEL).read_bytes(), other.read_bytes()
    (package / MODEL).write_bytes(second)
    other.write_bytes(first)


def folder(package: Path) -> None:
    (package / MODEL).unlink()
    (package / MODEL).mkdir()


def linked(package: Path) -> None:
    trapped("../elsewhere.pkl")(package)
    (package / MODEL).unlink()
    os.symlink(package.parent / "elsewhere.pkl", package / MODEL)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (trapped(MODEL), MODEL),
        (trapped("data/more.joblib"), "data/more.joblib"),
        (trapped("deep/down/more.pkl"), "deep/down/more.pkl"),
        (trapped("more.pickle"), "more.pickle"),
        (emptied, MODEL),
        (one_bit, MODEL),
        (exchanged, MODEL),
        (folder, MODEL),
        (linked, MODEL),
    ],
    ids=["trap", "another", "deep", "other suffix", "empty", "one bit", "exchanged", "folder", "link"],
)
def test_what_is_not_the_pinned_pickle_is_never_read(
    change: Callable[[Path], object], named: str, package: Path
) -> None:
    file = yaml.safe_load((ROOT / "experiments" / "smollm2-rtp.yaml").read_text(encoding="utf-8"))
    config = ProfanityCheckScorer(**file["reward"]["scorer"])
    assert load_scorer("profanity", config, Path("nowhere"), "exp").score(["fine"])[0] is not None
    change(package)

    with pytest.raises(UserError, match=named):
        load_scorer("profanity", config, Path("nowhere"), "exp")
    assert not (package / "sprung").exists()
