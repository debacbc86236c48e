"""The peer's environment: a complete lock that differs from ours in TRL alone."""

import re


def pins(path):
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    for line in lines:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line), f"expected NAME==VERSION, got {line}"
    return dict(line.split("==") for line in lines)


def test_only_trl_differs_between_the_two_environments(root):
    ours, peer = pins(root / "requirements.txt"), pins(root / "benchmarks" / "requirements-trl.txt")
    differing = {name: (version, ours.get(name)) for name, version in peer.items() if ours.get(name) != version}
    assert differing == {"trl": ("1.9.2", ours["trl"])}


def test_git_and_dvc_ignore_the_peers_environment(root):
    for name in (".gitignore", ".dvcignore"):
        assert ".venv-trl/" in (root / name).read_text(encoding="utf-8")
