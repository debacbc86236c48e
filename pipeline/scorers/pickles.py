"""Downloaded weights in pickles: read only where their very bytes are pinned, and even then as tensors alone."""

from pathlib import Path
from typing import Any

from pipeline import base_files
from pipeline.config.sections import Source
from pipeline.errors import UserError
from pipeline.fingerprint import file_digest
from pipeline.scorers.checkpoint import REMEDY


def check_pinned(path: Path, folder: Path, source: Source) -> None:
    """Raise UserError unless the SHA-256 of `path` is what `source`, fetched into `folder`, pins for that file.

    A wheel's pin is of the whole wheel and says nothing of a file on disk, so that it pins no pickle.
    """
    if isinstance(source.sha256, dict):
        expected = source.sha256.get(path.relative_to(folder).as_posix())
    else:
        expected = None if source.uri.startswith("pypi:") else source.sha256
    if not expected:
        raise UserError(
            f"{path}: not pinned: a pickle is read only where its own sha256 stands in the scorer's source; pin it "
            "there after reviewing it, or choose safetensors"
        )
    found = file_digest(path)
    if found != expected:
        raise UserError(f"{path}: expected sha256 {expected} (pinned), got {found}; {REMEDY}")


def read_pickle(path: Path) -> Any:
    """Return the tensors and plain values of a file of torch.save; raise UserError where it holds anything else."""
    import torch

    with base_files.reading(path, "a pickle of tensors and plain values", REMEDY):
        return torch.load(path, map_location="cpu", weights_only=True)
