"""Make a Transformers checkpoint folder (config, safetensors, tokenizer) out of downloaded files."""

import json
import logging
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.io.atomic import replacing_folder
from pipeline.io.errors import UserError
from pipeline.sources.digests import inside, shown
from pipeline.sources.gguf import check_header

logger = logging.getLogger(__name__)

CODE = {".py", ".pyc", ".so"}
PICKLES = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".msgpack", ".h5"}


def import_checkpoint(files: Path, target: Path, key: str = "model.source") -> None:
    """Turn a folder of downloaded files into the checkpoint folder `target`, replacing it as a whole.

    One GGUF is dequantized to float32; a folder with config.json and safetensors is copied without pickles
    and without code. The same files give the same bytes. Raises UserError naming `key`, the parameter that the files
    come from, for anything else, weights in pickles above all, and for what `inspect` refuses.
    """
    ggufs = sorted(files.glob("*.gguf"))
    with replacing_folder(target) as folder, _naming(key):
        if len(ggufs) == 1:
            _dequantize(ggufs[0], folder)
        elif not ggufs and (files / "config.json").is_file() and any(files.glob("*.safetensors")):
            _copy(files, folder)
        else:
            found = shown(", ".join(_listed(files)), longest=300) or "nothing"
            raise UserError(
                f"expected one .gguf, or config.json with *.safetensors, got {found}; weights in pickles "
                "are never read: name a safetensors file"
            )
        inspect(folder)


@contextmanager
def _naming(key: str) -> Iterator[None]:
    """Put the parameter's key in front of whatever is wrong with its files."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{key}: {error}") from error


def _dequantize(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    logger.info("%s: dequantizing to float32 (may take a minute)", gguf.name)
    check_header(gguf)
    with parsing(gguf.parent, gguf.name):
        tokenizer = AutoTokenizer.from_pretrained(
            gguf.parent, gguf_file=gguf.name, local_files_only=True, trust_remote_code=False
        )
        model: Any = AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, dtype=torch.float32, local_files_only=True, trust_remote_code=False
        )
    # Transformers refuses to save a model that still says it is quantized, though its weights no longer are.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.hf_quantizer = None
    for key in ("is_local", "local_files_only"):  # how it was loaded just now is no fact about the tokenizer
        tokenizer.init_kwargs.pop(key, None)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _copy(files: Path, folder: Path) -> None:
    for name in _listed(files):
        if Path(name).suffix.lower() in PICKLES | CODE:
            logger.info("%s: not copied, since no pickle is read and no code of a checkpoint is run", name)
            continue
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(files / name, folder / name)


def _listed(files: Path) -> list[str]:
    return sorted(path.relative_to(files).as_posix() for path in files.rglob("*") if path.is_file())


INDEX = "model.safetensors.index.json"
WEIGHTS = "model.safetensors"
REMEDY = "pin a sound file, or choose another source"
# What a template has to reach for in order to leave its sandbox.
_INTERNAL = re.compile(r"__\w+__")


def inspect(folder: Path) -> None:
    """Raise UserError unless the checkpoint in `folder` has sound weights, a known config and a working tokenizer.

    Weights are those of `model.safetensors`, or of the shards that its index names; only their headers are read.
    """
    tensors = _check_weights(folder)
    _check_config(folder, tensors)
    _check_tokenizer(folder)


@contextmanager
def parsing(folder: Path, file: str) -> Iterator[None]:
    """Turn whatever a parser raises over bytes that nobody has to trust into one UserError that names `file`.

    Transformers, tokenizers and gguf raise all kinds: KeyError, IndexError, RecursionError, AttributeError, and, from
    Rust, Exception itself.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        said = str(error).replace(f"{folder}/", "").replace(str(folder), "the checkpoint")
        reason = shown(f"{type(error).__name__}: {said}", longest=160)
        raise UserError(f"{file}: cannot be read ({reason}); {REMEDY}") from error


def _check_weights(folder: Path) -> int:
    """Return how many tensors the weights hold."""
    shards = _shards(folder) if (folder / INDEX).is_file() else {WEIGHTS: set()}
    absent = sorted(name for name in shards if not (folder / name).is_file())
    if absent:
        raise UserError(
            f"{INDEX if WEIGHTS not in absent else 'the checkpoint'} needs {_some(absent)}; add what is "
            "missing to sha256"
        )
    total = 0
    for name, named in sorted(shards.items()):
        held = _tensors(folder, name)
        if named - held:
            raise UserError(f"{name}: lacks {_some(named - held)}, which {INDEX} promises; {REMEDY}")
        total += len(held)
    if not total:
        raise UserError(f"{_some(shards) or INDEX}: holds no tensor; {REMEDY}")
    return total


def _shards(folder: Path) -> dict[str, set[str]]:
    """Return the tensors that the index promises, by shard."""
    index = _json_object(folder, INDEX)
    weight_map = index.get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise UserError(f"{INDEX}: expected weight_map to map tensors to files; {REMEDY}")
    shards: dict[str, set[str]] = {}
    for tensor, name in weight_map.items():
        shards.setdefault(name, set()).add(tensor)
    for name in shards:
        try:
            inside(name)
        except UserError as error:
            raise UserError(f"{INDEX}: {error}") from None
        if not name.endswith(".safetensors"):
            raise UserError(f"{INDEX}: weights are read from safetensors, not '{shown(name)}'; {REMEDY}")
    return shards


def _tensors(folder: Path, name: str) -> set[str]:
    from safetensors import safe_open

    with parsing(folder, name), safe_open(folder / name, framework="numpy") as file:
        return set(file.keys())


def _check_config(folder: Path, tensors: int) -> None:
    from transformers import AutoConfig

    raw = _json_object(folder, "config.json")
    with parsing(folder, "config.json"):
        try:
            config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except ValueError:
            if "auto_map" not in raw:
                raise
            raise _wants_code("config.json") from None
        layers = getattr(config.get_text_config(), "num_hidden_layers", None)
    if isinstance(layers, int) and layers > tensors:  # the model class would build them all before it misses weights
        raise UserError(
            f"config.json: num_hidden_layers is {layers:,}, and the weights are {tensors:,} tensors; {REMEDY}"
        )


def _check_tokenizer(folder: Path) -> None:
    from transformers import AutoTokenizer

    file = "tokenizer_config.json"
    raw = _json_object(folder, file) if (folder / file).is_file() else {}
    with parsing(folder, "tokenizer"):
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except ValueError:
            if "auto_map" not in raw:
                raise
            raise _wants_code(file) from None
    templates = tokenizer.chat_template or {}
    for template in templates.values() if isinstance(templates, dict) else [templates]:
        _check_template(folder, template)


def _check_template(folder: Path, template: Any) -> None:
    """Refuse a chat template that does not parse or reaches for internals of Python.

    Where `model.prompt_format` is chat_template the stages render it, in Transformers' sandbox; an exported model hands
    it on to programs that may have none.
    """
    from jinja2 import nodes
    from transformers.utils.chat_template_utils import _compile_jinja_template

    with parsing(folder, "chat template"):
        if not isinstance(template, str):
            raise TypeError(f"expected text, got {type(template).__name__}")
        environment = _compile_jinja_template(template).environment  # with the tags that Transformers adds
        tree = environment.parse(template)
    names = [node.attr for node in tree.find_all(nodes.Getattr)]
    names += [node.value for node in tree.find_all(nodes.Const) if isinstance(node.value, str)]
    reached = sorted({found.group() for name in names if (found := _INTERNAL.search(name))})
    if reached:
        raise UserError(
            f"chat template: reaches for {_some(reached)}, which leads out of its sandbox, and is "
            "refused; choose another source"
        )


def _json_object(folder: Path, file: str) -> dict[str, Any]:
    with parsing(folder, file):
        value = json.loads((folder / file).read_text(encoding="utf-8"))
    if not isinstance(value, dict):
        raise UserError(f"{file}: expected one JSON object, got {type(value).__name__}; {REMEDY}")
    return value


def _wants_code(file: str) -> UserError:
    return UserError(
        f"{file}: asks to run code of the checkpoint (auto_map), which is never done; choose a model "
        "that Transformers knows by itself"
    )


def _some(names: Any) -> str:
    listed = sorted(names)
    return ", ".join(shown(name) for name in listed[:3]) + (f" and {len(listed) - 3} more" if len(listed) > 3 else "")
