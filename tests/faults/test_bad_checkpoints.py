"""`download` refuses checkpoints that are broken or mean harm, and runs nothing that they bring."""

import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import refused, run
from tests.faults.sourced import checkpoint, zipped
from tests.sources.tiny_gguf import write_gguf

Break = Callable[[Path], object]
CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
TOKENIZER, TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"


class Trap:
    """Makes the file `sprung` when its pickle is read."""

    def __reduce__(self) -> tuple[Callable[[Path], object], tuple[Path]]:
        return Path.touch, (Path("sprung"),)


CODE = b"open('sprung', 'w')\nclass Own: pass\n"
TRAP = pickle.dumps(Trap())


def holds(file: str, content: bytes) -> Break:
    return lambda folder: (folder / file).write_bytes(content)


def without(*files: str) -> Break:
    def change(folder: Path) -> None:
        for file in files:
            (folder / file).unlink()

    return change


def says(file: str, **changed: Any) -> Break:
    """Replace top-level values of a JSON file."""

    def change(folder: Path) -> None:
        path = folder / file
        path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **changed}), encoding="utf-8")

    return change


def edited(file: str, edit: Callable[[bytes], bytes]) -> Break:
    return lambda folder: (folder / file).write_bytes(edit((folder / file).read_bytes()))


def header(value: object, body: bytes = b"0000") -> bytes:
    """Return a safetensors file with this header."""
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return struct.pack("<Q", len(text)) + text + body


def tensor(shape: list[int], begin: int = 0, end: int = 4, dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def split(weight_map: object) -> Break:
    """Give the checkpoint an index of shards."""
    return holds(INDEX, json.dumps({"metadata": {}, "weight_map": weight_map}).encode())


def moved(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "weights.safetensors")


NO_WEIGHTS = "expected one .gguf, or config.json with *.safetensors"
NO_PICKLE = "weights in pickles are never read"
ABSENT = f"the checkpoint needs {WEIGHTS}"
OWN = {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own"}
OWN_TOKENIZER = {"AutoTokenizer": ["own.Own", None]}
ESCAPE = "{{ ''.__class__.__mro__[1].__subclasses__() }}"
MANY_DIGITS = b'{"model_type": "llama", "hidden_size": ' + b"9" * 5000 + b"}"

CHECKPOINTS: dict[str, tuple[tuple[Break, ...], str]] = {  # what is done to a sound one, and what is said
    "pickled weights alone": ((without(WEIGHTS), holds("pytorch_model.bin", TRAP)), NO_PICKLE),
    "pickled weights of another suffix": ((without(WEIGHTS), holds("model.pt", TRAP)), NO_PICKLE),
    "archive of pickled weights": (
        (without(WEIGHTS), holds("pytorch_model.bin", zipped(("archive/data.pkl", TRAP)))),
        NO_PICKLE,
    ),
    "pickle by the name of safetensors": ((holds(WEIGHTS, TRAP),), WEIGHTS),
    "archive by the name of safetensors": ((holds(WEIGHTS, zipped(("archive/data.pkl", TRAP))),), WEIGHTS),
    "weights of TensorFlow": ((without(WEIGHTS), holds("tf_model.h5", b"\x89HDF")), NO_PICKLE),
    "no config": ((without(CONFIG),), NO_WEIGHTS),
    "weights empty": ((holds(WEIGHTS, b""),), WEIGHTS),
    "weights truncated": ((edited(WEIGHTS, lambda content: content[:-1]),), WEIGHTS),
    "weights without a body": ((edited(WEIGHTS, lambda content: content[:200]),), WEIGHTS),
    "weights with a tail": ((edited(WEIGHTS, lambda content: content + b"more"),), WEIGHTS),
    "weights garbage": ((holds(WEIGHTS, bytes(range(256)) * 8),), WEIGHTS),
    "page for weights": ((holds(WEIGHTS, b"<!doctype html><title>not found</title>"),), WEIGHTS),
    "pointer of Git LFS for weights": (
        (holds(WEIGHTS, b"version https://git-lfs.github.com/spec/v1\noid sha256:0"),),
        WEIGHTS,
    ),
    "header of an exabyte": ((edited(WEIGHTS, lambda content: struct.pack("<Q", 1 << 60) + content[8:]),), WEIGHTS),
    "header no JSON": ((holds(WEIGHTS, header(b"{nope")),), WEIGHTS),
    "header no UTF-8": ((holds(WEIGHTS, header(b"\xff\xfe{}")),), WEIGHTS),
    "header without tensors": ((holds(WEIGHTS, header({}, b"")),), "holds no tensor"),
    "tensors overlap": ((holds(WEIGHTS, header({"a": tensor([1]), "b": tensor([1])})),), WEIGHTS),
    "tensor backward": ((holds(WEIGHTS, header({"a": tensor([1], 4, 0)})),), WEIGHTS),
    "tensor larger than its bytes": ((holds(WEIGHTS, header({"a": tensor([5])})),), WEIGHTS),
    "tensor of negative size": ((holds(WEIGHTS, header({"a": tensor([-1])})),), WEIGHTS),
    "tensor whose size overflows": ((holds(WEIGHTS, header({"a": tensor([2**40, 2**40])})),), WEIGHTS),
    "tensor of an unknown type": ((holds(WEIGHTS, header({"a": tensor([1], dtype="F99")})),), WEIGHTS),
    "weights of another name": ((moved,), ABSENT),
    "index no JSON": ((holds(INDEX, b"{"),), INDEX),
    "index a list": ((holds(INDEX, b"[]"),), f"{INDEX}: expected one JSON object"),
    "index without a map": ((holds(INDEX, b"{}"),), "expected weight_map to map tensors to files"),
    "index with a list": ((split([WEIGHTS]),), "expected weight_map to map tensors to files"),
    "index with numbers": ((split({"a": 1}),), "expected weight_map to map tensors to files"),
    "index without a tensor": ((split({}),), "holds no tensor"),
    "absent shard": ((split({"a": "model-2.safetensors"}),), f"{INDEX} needs model-2.safetensors"),
    "shard outside": ((split({"a": "../../model.safetensors"}),), "could leave the target folder"),
    "shard elsewhere": ((split({"a": "/etc/hosts"}),), "could leave the target folder"),
    "shard a pickle": ((split({"a": "pytorch_model.bin"}), holds("pytorch_model.bin", TRAP)), "read from safetensors"),
    "shard lacks a tensor": ((split({"no.such.weight": WEIGHTS}),), "lacks no.such.weight"),
    "config no JSON": ((holds(CONFIG, b"{"),), CONFIG),
    "config empty": ((holds(CONFIG, b""),), CONFIG),
    "config no UTF-8": ((holds(CONFIG, b"\xff\xfe\x00"),), CONFIG),
    "config a list": ((holds(CONFIG, b"[]"),), f"{CONFIG}: expected one JSON object, got list"),
    "config too deep": ((holds(CONFIG, b"[" * 100_000),), CONFIG),
    "config with a number of 5,000 digits": ((holds(CONFIG, MANY_DIGITS),), CONFIG),
    "config without model_type": ((holds(CONFIG, b"{}"),), CONFIG),
    "model_type unknown": ((says(CONFIG, model_type="nosuch"),), CONFIG),
    "model_type a number": ((says(CONFIG, model_type=5),), CONFIG),
    "model_type a list": ((says(CONFIG, model_type=["llama"]),), CONFIG),
    "size in words": ((says(CONFIG, hidden_size="many"),), "hidden_size"),
    "negative size": ((says(CONFIG, hidden_size=-1),), CONFIG),
    "heads that do not divide": ((says(CONFIG, num_attention_heads=3),), CONFIG),
    "dtype unknown": ((says(CONFIG, dtype="float9"),), CONFIG),
    "quantization a number": ((says(CONFIG, quantization_config=5),), CONFIG),
    "rope a number": ((says(CONFIG, rope_scaling=5),), CONFIG),
    "a billion layers": ((says(CONFIG, num_hidden_layers=10**9),), "num_hidden_layers is 1,000,000,000"),
    "code of its own": (
        (says(CONFIG, model_type="own", auto_map=OWN), holds("own.py", CODE)),
        "asks to run code of the checkpoint",
    ),
    "code of another repository": (
        (says(CONFIG, model_type="own", auto_map={"AutoConfig": "evil/code--own.Own"}),),
        "asks to run code of the checkpoint",
    ),
    "auto_map a number": ((says(CONFIG, auto_map=5),), CONFIG),
    "no tokenizer": ((without(TOKENIZER, TOKENIZER_CONFIG),), "tokenizer"),
    "tokenizer absent": ((without(TOKENIZER),), "tokenizer"),
    "tokenizer no JSON": ((holds(TOKENIZER, b"{"),), "tokenizer"),
    "tokenizer empty": ((holds(TOKENIZER, b""),), "tokenizer"),
    "tokenizer a list": ((holds(TOKENIZER, b"[]"),), "tokenizer"),
    "tokenizer an empty object": ((holds(TOKENIZER, b"{}"),), "tokenizer"),
    "tokenizer no UTF-8": ((holds(TOKENIZER, b"\xff\x00"),), "tokenizer"),
    "tokenizer of an unknown kind": ((says(TOKENIZER, model={"type": "None"}),), "tokenizer"),
    "negative token": ((says(TOKENIZER, model={"type": "BPE", "vocab": {"a": -1}, "merges": []}),), "tokenizer"),
    "merge of unknown tokens": (
        (says(TOKENIZER, model={"type": "BPE", "vocab": {"a": 1}, "merges": ["a zz"]}),),
        "tokenizer",
    ),
    "tokenizer config no JSON": ((holds(TOKENIZER_CONFIG, b"{"),), TOKENIZER_CONFIG),
    "tokenizer config a list": ((holds(TOKENIZER_CONFIG, b"[]"),), TOKENIZER_CONFIG),
    "tokenizer class a number": ((says(TOKENIZER_CONFIG, tokenizer_class=5),), "tokenizer"),
    "end a number": ((says(TOKENIZER_CONFIG, eos_token=5),), "tokenizer"),
    "added tokens a number": ((says(TOKENIZER_CONFIG, added_tokens_decoder={"x": 5}),), "tokenizer"),
    "tokenizer of its own code": (
        (says(TOKENIZER_CONFIG, tokenizer_class="Own", auto_map=OWN_TOKENIZER), holds("own.py", CODE)),
        "asks to run code of the checkpoint",
    ),
    "template a number": ((says(TOKENIZER_CONFIG, chat_template=5),), "chat template"),
    "template that does not parse": ((says(TOKENIZER_CONFIG, chat_template="{% for %}"),), "chat template"),
    "template that reaches out": ((says(TOKENIZER_CONFIG, chat_template=ESCAPE),), "__class__"),
    "template that reaches out by a filter": (
        (says(TOKENIZER_CONFIG, chat_template="{{ ''|attr('__init__') }}"),),
        "__init__",
    ),
    "template of a file that reaches out": ((holds("chat_template.jinja", ESCAPE.encode()),), "__subclasses__"),
}


@pytest.mark.parametrize(("broken", "said"), CHECKPOINTS.values(), ids=CHECKPOINTS)
def test_a_checkpoint(broken: tuple[Break, ...], said: str, workplace: Path) -> None:
    checkpoint(*broken)
    refused("download", "smoke", names=("model.source: ", said))
    assert not Path("sprung").exists()


GGUF = "tiny.gguf"
MAGIC = struct.pack("<4sI", b"GGUF", 3)
ARRAY = struct.pack("<Q4sI", 4, b"many", 9)


def counts(tensors: int, keys: int) -> bytes:
    return MAGIC + struct.pack("<QQ", tensors, keys)


def broken_gguf(edit: Callable[[bytes], bytes]) -> tuple[Break, ...]:
    return lambda folder: write_gguf(folder / GGUF), edited(GGUF, edit)


GGUFS: dict[str, tuple[tuple[Break, ...], str]] = {
    "empty": ((holds(GGUF, b""),), "4 bytes where 0 are left"),
    "bad magic": (broken_gguf(lambda content: b"GGML" + content[4:]), "does not begin with GGUF"),
    "unknown version": (broken_gguf(lambda content: content[:4] + b"\x09\0\0\0" + content[8:]), "version 9"),
    "swapped bytes": (broken_gguf(lambda content: content[:4] + b"\0\0\0\x03" + content[8:]), "bytes are swapped"),
    "cut in its header": (broken_gguf(lambda content: content[:300]), "are left"),
    "cut among its tensors' names": (broken_gguf(lambda content: content[:900]), "are left"),
    "cut in its weights": (broken_gguf(lambda content: content[:-100]), GGUF),
    "page": ((holds(GGUF, b"<!doctype html><title>not found</title>"),), "does not begin with GGUF"),
    "pickle": ((holds(GGUF, TRAP),), "does not begin with GGUF"),
    "more keys than bytes": ((holds(GGUF, counts(0, 1 << 60)),), "are left"),
    "more tensors than bytes": ((holds(GGUF, counts(1 << 60, 0)),), "are left"),
    "array of an exabyte": (
        (holds(GGUF, counts(0, 1) + ARRAY + struct.pack("<IQ", 4, 1 << 58) + bytes(99)),),
        "are left",
    ),
    "array of endless texts": (
        (holds(GGUF, counts(0, 1) + ARRAY + struct.pack("<IQ", 8, 1 << 60) + bytes(99)),),
        "are left",
    ),
    "array of arrays": (
        (holds(GGUF, counts(0, 1) + ARRAY + struct.pack("<IQ", 9, 1) + bytes(99)),),
        "an array of arrays",
    ),
    "value of an unknown type": (
        (holds(GGUF, counts(0, 1) + struct.pack("<Q4sI", 4, b"what", 77)),),
        "unknown type 77",
    ),
    "a billion layers": (
        (holds(GGUF, counts(0, 1) + struct.pack("<Q17sII", 17, b"llama.block_count", 4, 10**9)),),
        "block_count is 1,000,000,000",
    ),
    "tensor of a thousand dimensions": (
        (holds(GGUF, counts(1, 0) + struct.pack("<Q1sI", 1, b"a", 1000) + bytes(9999)),),
        "1,000 dimensions",
    ),
    "tensor of an unknown type": (
        (holds(GGUF, counts(1, 0) + struct.pack("<Q1sIQIQ", 1, b"a", 1, 1, 99, 0) + bytes(99)),),
        GGUF,
    ),
    "nothing in it": ((holds(GGUF, counts(0, 0)),), GGUF),
    "unknown architecture": (broken_gguf(lambda content: content.replace(b"llama", b"lhama")), GGUF),
    "two of them": ((holds(GGUF, b"GGUF"), holds("other.gguf", b"GGUF")), NO_WEIGHTS),
}


@pytest.mark.parametrize(("broken", "said"), GGUFS.values(), ids=GGUFS)
def test_a_gguf(broken: tuple[Break, ...], said: str, workplace: Path) -> None:
    checkpoint(*broken, gguf=True)
    refused("download", "smoke", names=("model.source: ", said))
    assert not Path("sprung").exists()


def test_pickles_and_code_beside_sound_weights_are_neither_read_nor_kept(workplace: Path) -> None:
    brought = {"pytorch_model.bin": TRAP, "training_args.BIN": TRAP, "own.py": CODE}
    known = says(CONFIG, auto_map=OWN)  # Transformers has a class of its own for this model_type
    checkpoint(known, *(holds(file, content) for file, content in brought.items()))

    assert run("download", "smoke").code == 0
    assert not Path("sprung").exists()
    assert not {path.name for path in Path("models/smoke/base").iterdir()} & brought.keys()
