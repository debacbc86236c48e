"""What can be done to one file or folder, for tables of faults: each is a function of the path it damages."""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save

Damage = Callable[[Path], object]
Row = dict[str, Any]
NAN, INFINITY = float("nan"), float("inf")


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a JSONL file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_rows(path: Path, rows: list[Row]) -> None:
    """Write rows as JSONL; NaN and Infinity become the literals of that name, which JSON does not have."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def rows(change: Callable[[list[Row]], list[Row]]) -> Damage:
    """Replace all rows of a JSONL file."""
    return lambda path: write_rows(path, change(read_rows(path)))


def row(**values: Any) -> Damage:
    """Set values in the second row; `a__b` is the key b of the object a."""

    def damage(path: Path) -> None:
        found = read_rows(path)
        for key, value in values.items():
            *outer, last = key.split("__")
            target = found[1]
            for name in outer:
                target = target[name]
            target[last] = value
        write_rows(path, found)

    return damage


def every_row(**values: Any) -> Damage:
    """Set values in all rows."""
    return rows(lambda found: [{**item, **values} for item in found])


def without(key: str) -> Damage:
    """Take a key out of the second row."""
    return rows(lambda found: [found[0], {name: found[1][name] for name in found[1] if name != key}, *found[2:]])


def line(text: str) -> Damage:
    """Replace the second line."""

    def damage(path: Path) -> None:
        first, _, *others = path.read_text(encoding="utf-8").split("\n")
        path.write_text("\n".join([first, text, *others]), encoding="utf-8")

    return damage


def content(data: bytes) -> Damage:
    """Write this, whatever was there."""

    def damage(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    return damage


def cut(path: Path) -> None:
    """Take the second half away, in the middle of a line."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2 + 3])


def encoded(encoding: str) -> Damage:
    """Write the same text in another encoding."""
    return lambda path: path.write_bytes(path.read_text(encoding="utf-8").encode(encoding))


def gone(path: Path) -> None:
    """Remove a file or folder."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def folder(path: Path) -> None:
    """Put a folder in the place of a file."""
    path.unlink()
    path.mkdir()


def key(*place: str | int, to: Any) -> Damage:
    """Set the value under nested keys of a JSON file."""

    def damage(path: Path) -> None:
        whole = json.loads(path.read_text(encoding="utf-8"))
        _inner(whole, place)[place[-1]] = to
        path.write_text(json.dumps(whole), encoding="utf-8")

    return damage


def no_key(*place: str | int) -> Damage:
    """Take the value under nested keys out of a JSON file."""

    def damage(path: Path) -> None:
        whole = json.loads(path.read_text(encoding="utf-8"))
        del _inner(whole, place)[place[-1]]
        path.write_text(json.dumps(whole), encoding="utf-8")

    return damage


def flipped(path: Path) -> None:
    """Change one bit in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


class Pickled:
    """What leaves a trace where it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("unpickled",)


def tensors(**changed: Any) -> Damage:
    """Set tensors of a safetensors file; None takes one out."""

    def damage(path: Path) -> None:
        found = {name.replace(".", "_"): name for name in load_file(path)}
        whole = load_file(path) | {found.get(name, name): value for name, value in changed.items()}
        path.write_bytes(save({name: value for name, value in whole.items() if value is not None}, {"format": "pt"}))

    return damage


def every_tensor(value: float) -> Damage:
    """Fill all tensors of a safetensors file with one number."""

    def damage(path: Path) -> None:
        path.write_bytes(save({name: np.full_like(found, value) for name, found in load_file(path).items()}))

    return damage


def pickled_weights(path: Path) -> None:
    """Leave weights in a pickle alone, as old checkpoints have them."""
    path.unlink()
    path.with_name("pytorch_model.bin").write_bytes(pickle.dumps(Pickled()))


def sharded_outside(path: Path) -> None:
    """Let an index lead to weights outside of the folder."""
    path.rename(path.parent.parent / "model.safetensors")
    index = {"metadata": {}, "weight_map": {"embeddings.word_embeddings.weight": "../model.safetensors"}}
    path.with_name("model.safetensors.index.json").write_text(json.dumps(index))


def with_code(path: Path) -> None:
    """Let the checkpoint bring a class of its own, which leaves a trace where it is imported."""
    key("auto_map", to={"AutoModel": "own.Model", "AutoConfig": "own.Config", "AutoTokenizer": "own.Tokenizer"})(path)
    path.with_name("own.py").write_text("import os\nos.mkdir('unpickled')\n")


def _inner(whole: Any, place: tuple[str | int, ...]) -> Any:
    for name in place[:-1]:
        whole = whole[name]
    return whole
