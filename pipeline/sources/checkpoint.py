"""The files of a base checkpoint, checked before and after Transformers reads them.

Transformers starts what a checkpoint lacks from random numbers, leaves out what it does not know, and falls back on
defaults for a generation config that it cannot read, each with no more than a line of log: here all of that is refused.
"""

import shutil
import sys
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.io.atomic import replacing_folder
from pipeline.io.errors import UserError, shortened, shown
from pipeline.io.records import read_json

if TYPE_CHECKING:
    import torch

CONFIG, GENERATION, WEIGHTS = "config.json", "generation_config.json", "model.safetensors"
REMEDY = "delete the folder and run `dvc repro` to fetch it again, or choose another model.source"
_SHOWN = 3  # tensors named in a message
_CONSTANT = ".masked_bias"  # that old versions of Transformers saved with the weights of GPT-2's kind
_REASON_LENGTH = 200  # characters of what a library says


@contextmanager
def reading(place: Path, what: str, remedy: str = REMEDY) -> Iterator[None]:
    """Turn whatever a library raises while it reads files at `place` into UserError.

    These libraries raise many things of files that they cannot read, tokenizers plain Exception; the first line of the
    cause is told, and the whole of it chained.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        torch = sys.modules.get("torch")  # where it is not loaded, it has not raised
        if torch is not None and isinstance(error, torch.OutOfMemoryError):
            raise
        reason = shortened(" ".join(f"{type(error).__name__}: {error}".split()), _REASON_LENGTH)
        raise UserError(f"{place}: {what} cannot be read ({reason}); {remedy}") from error


def read_config(folder: Path, remedy: str = REMEDY) -> Any:
    """Return the checkpoint's configuration; raise UserError for one that is broken, needs code, or is quantized."""
    from transformers import AutoConfig

    path = folder / CONFIG
    raw = read_json(path)
    if not isinstance(raw.get("model_type"), str):
        raise UserError(f"{path}: model_type: expected a name, got {shown(raw.get('model_type'))}; {remedy}")
    check_no_code(path, raw)
    if raw.get("quantization_config") is not None:
        raise UserError(
            f"{path}: quantization_config: expected weights that are not quantized; choose another model.source"
        )
    with reading(path, "the configuration", remedy):
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def check_no_code(path: Path, raw: Mapping[str, Any], remedy: str = "choose another model.source") -> None:
    """Raise UserError for a file that names Python code of the checkpoint."""
    if raw.get("auto_map"):
        raise UserError(f"{path}: auto_map: the checkpoint wants to run code of its own, which is never done; {remedy}")


def check_sizes(folder: Path, config: Any, architecture: str, known: Collection[str], remedy: str = REMEDY) -> None:
    """Raise UserError when the model is none of this architecture's (`known` types) or has no layers or tokens."""
    path = folder / CONFIG
    if config.model_type not in known:
        raise UserError(
            f"{path}: model_type: {shown(config.model_type)} is no model of model.architecture {architecture}; correct "
            "model.architecture or choose another model.source"
        )
    text = config.get_text_config()
    for key in ("vocab_size", "hidden_size", "num_hidden_layers"):
        value = getattr(text, key, None)
        if not isinstance(value, int) or value < 1:
            raise UserError(f"{path}: {key}: expected a whole number of at least 1, got {shown(value)}; {remedy}")


def check_generation(folder: Path, vocabulary: int, remedy: str = REMEDY) -> None:
    """Raise UserError for a generation config that is broken or stops at what is no token."""
    path = folder / GENERATION
    if not path.exists():
        return
    ends = read_json(path).get("eos_token_id")
    for token in ends if isinstance(ends, list) else [] if ends is None else [ends]:
        if type(token) is not int or not 0 <= token < vocabulary:
            raise UserError(
                f"{path}: eos_token_id: expected token ids below {vocabulary}, got {shown(token)}; {remedy}"
            )


def check_weight_files(folder: Path, remedy: str = REMEDY) -> None:
    """Raise UserError when the weights are not whole safetensors files of this folder. Reads headers alone."""
    for path in _weight_files(folder, remedy):
        if not path.is_file():
            raise UserError(f"{path}: not found; weights are read from safetensors alone; {remedy}")
        check_safetensors(path, remedy)


def check_finite_files(folder: Path, remedy: str = REMEDY) -> None:
    """Raise UserError naming a tensor of whole weight files that holds NaN or infinity. Reads one tensor at a time."""
    from safetensors import safe_open

    for path in _weight_files(folder, remedy):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 (no mapping)
                check_finite(folder, {name: file.get_tensor(name)}, remedy)


def check_safetensors(path: Path, remedy: str) -> None:
    """Raise UserError when a file is no whole safetensors file. Reads its header alone."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt"):
            pass
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: expected a whole safetensors file ({shortened(str(error))}); {remedy}") from error


def check_loaded(folder: Path, model: Any, loaded: Mapping[str, Any], remedy: str = REMEDY) -> None:
    """Raise UserError unless every tensor of the model came from the files, every one of theirs was used, all finite.

    `loaded` is what Transformers tells of it (`output_loading_info`).
    """
    lacking = ("missing_keys", "lacks {}, which would start from random numbers")
    surplus = ("unexpected_keys", "holds {}, which the configured model has no place for")
    shapes = ("mismatched_keys", "holds {} of another shape than the configured model has")
    for key, problem in (shapes, lacking, surplus):
        names = [name if isinstance(name, str) else name[0] for name in loaded[key]]
        if found := [name for name in names if not name.endswith(_CONSTANT)]:
            raise UserError(f"{folder}: the checkpoint {problem.format(named(found))}; {remedy}")
    check_finite(folder, model.state_dict(), remedy)


def write_checkpoint(model: Any, folder: Path, base: Path) -> None:
    """Write all weights of a model with the configuration of the checkpoint in `base`, which it was made from."""
    with replacing_folder(folder) as temporary:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # saving reads a property that Transformers deprecated
            model.save_pretrained(temporary, safe_serialization=True)
        for name in (CONFIG, GENERATION):  # a trainer may have changed those of the model
            (temporary / name).unlink(missing_ok=True)
            if (base / name).exists():
                shutil.copyfile(base / name, temporary / name)


def check_finite(place: Path | str, tensors: "Mapping[str, torch.Tensor]", remedy: str) -> None:
    """Raise UserError naming the tensors that hold NaN or infinity."""
    # A sum takes a fifth of the time of a look at every number, and only a broken one is looked at again.
    doubtful = [name for name, tensor in tensors.items() if tensor.is_floating_point() and not _sums_up(tensor)]
    broken = [name for name in doubtful if not tensors[name].isfinite().all()]
    if broken:
        raise UserError(f"{place}: expected finite weights, got NaN or infinity in {named(broken)}; {remedy}")


def named(tensors: Collection[str]) -> str:
    """Return the first few names, and how many more there are."""
    names = sorted(tensors)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(shortened(name) for name in names[:_SHOWN]) + more


def _sums_up(tensor: "torch.Tensor") -> bool:
    import torch

    return bool(tensor.detach().sum(dtype=torch.float32).isfinite())


def _weight_files(folder: Path, remedy: str) -> list[Path]:
    index = folder / f"{WEIGHTS}.index.json"
    return [folder / name for name in (_shards(index, remedy) if index.exists() else [WEIGHTS])]


def _shards(index: Path, remedy: str) -> list[str]:
    found = read_json(index).get("weight_map")
    if not isinstance(found, dict) or not found:
        raise UserError(f"{index}: weight_map: expected tensors and their files, got {shown(found)}; {remedy}")
    names = set(found.values())
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or Path(name).suffix != ".safetensors":
            raise UserError(
                f"{index}: weight_map: expected names of .safetensors files beside it, got {shown(name)}; {remedy}"
            )
        if not (index.parent / name).is_file():
            raise UserError(f"{index}: weight_map: {shown(name)} is not there; {remedy}")
    return sorted(names)
