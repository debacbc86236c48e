"""Stand in for every stage: hash what dvc.yaml declares it to read into each of its outputs, and log the execution.

Called as `stub.py WORKSHOP STAGE AXIS...` in the root of a DVC repository. The folder WORKSHOP, outside of it, holds
`stages.json` (dvc.yaml as JSON), the log, and `constant.txt`: stages whose output is the same whatever
they read. Only the standard library, since it is started a few hundred times.
"""

import hashlib
import json
import re
import sys
from pathlib import Path


def section(file: str, name: str) -> bytes:
    """Return the lines of one key of a YAML file, of which `a.b` is within `a`."""
    text = Path(file).read_text()
    for depth, key in enumerate(name.split(".")):
        indent = "  " * depth
        match = re.search(rf"^{indent}{key}:.*\n(?:{indent}[^\w\n].*\n|\n)*", text, flags=re.MULTILINE)
        assert match, f"{file} has no {name}"
        text = match[0]
    return text.encode()


def content(dependency: str) -> bytes:
    path = Path(dependency)
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    assert files, f"{dependency} is empty"
    return b"".join(file.read_bytes() for file in files if file.is_file() and "__pycache__" not in file.parts)


def write(output: str, digest: str) -> None:
    path = Path(output)
    if not path.suffix:
        path /= "content.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"step,digest\n0,{digest}\n" if path.suffix == ".csv" else json.dumps({"digest": digest}) + "\n")


def main(workshop: Path, name: str, *values: str) -> None:
    stage = json.loads((workshop / "stages.json").read_text())[name]
    axes = dict(zip(stage["axes"], values, strict=True))
    spelled = json.loads(re.sub(r"\$\{item\.(\w+)\}", lambda match: axes[match[1]], json.dumps(stage)))
    digest = hashlib.sha256(name.encode())
    if name not in (workshop / "constant.txt").read_text().split():
        for dependency in spelled["deps"]:
            digest.update(content(dependency))
        for entry in spelled["params"]:
            for file, sections in entry.items():
                for key in sections:
                    digest.update(section(file, key))
    for entry in [*spelled.get("outs", []), *spelled.get("metrics", []), *spelled.get("plots", [])]:
        write(entry if isinstance(entry, str) else next(iter(entry)), digest.hexdigest())
    with (workshop / "log.txt").open("a") as log:
        log.write(":".join([name, *values]) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
