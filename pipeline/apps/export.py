"""Write one policy as a whole checkpoint: `python -m pipeline.apps.export EXPERIMENT METHOD [--seed N] [--output DIR]`.

The LoRA adapter is folded into the base in float32, whatever `model.dtype` is: in bfloat16 the sum would round most of
a small update away. The folder takes its place only after it was loaded again and gave the logits of the policy.
"""

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.config.loader import load
from pipeline.config.roster import load_roster
from pipeline.evaluation import judge_cards, shape
from pipeline.io import paths
from pipeline.io.atomic import replacing_folder
from pipeline.io.errors import Arguments, UserError
from pipeline.io.hashing import adapter_fingerprint, file_digest
from pipeline.io.records import read_json, write_json
from pipeline.methods import METHODS
from pipeline.tracking import model_card
from pipeline.tracking.execution import REFERENCE, training

POLICIES = (REFERENCE, *METHODS)
MANIFEST = "manifest.json"
OF_LOADING = ("is_local", "local_files_only")  # how a tokenizer was read here, which Transformers would write down
PROMPTS = 8  # of the dev split; a weight that was not folded in shows at the first
# Largest difference of a logit from the policy's, as a share of the largest logit. Both sides compute in float32 and
# differ in the order of sums alone: x W + (x A) B against x (W + A B). Rounding (2^-24 each) adds up over the layers to
# 3e-6 of the largest logit with the three adapters of smollm2-rtp (1.2e-4 of 40), while leaving the weakest of them out
# changes logits by 5e-2 of it. The bound lies between, as that of policy/language_model.py for float32.
TOLERANCE = 1e-4


class Check(NamedTuple):
    """How far the merged checkpoint's logits are from the policy's, and how far the base's are."""

    difference: float
    allowed: float
    effect: float


def export(experiment: str, policy: str, seed: int, output: Path | None = None) -> tuple[Path, Check]:
    """Write the merged checkpoint of a policy with its card, and return its folder and how it was checked.

    Raises UserError where the policy is not on disk, where `output` holds something else, and where the checkpoint,
    loaded again, does not give the policy's logits; nothing is written then.
    """
    settings = load(experiment, ("model",))
    adapter = _adapter(experiment, policy, seed)
    _check_results(experiment)
    folder = output or paths.exported(experiment, seed, policy)
    _check_free(folder)

    from pipeline.policy import adapters, loading

    # A merged checkpoint is of whole weights: those that were quantized for the training are read as they are.
    whole_weights = settings.model.model_copy(update={"quantization": None})
    model = loading.load_policy_model(experiment, seed, whole_weights, policy).float()
    tokenizer = loading.load_tokenizer(experiment)
    for key in OF_LOADING:
        tokenizer.init_kwargs.pop(key, None)
    inputs = _inputs(experiment, settings.model, tokenizer)
    expected = _logits(model, inputs)
    with adapters.acting_as_base(model):
        base = _logits(model, inputs)
    whole = model.merge_and_unload() if adapters.adapters_of(model) else model
    with replacing_folder(folder) as temporary:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # saving reads a property that Transformers deprecated
            whole.save_pretrained(temporary, safe_serialization=True)
        tokenizer.save_pretrained(temporary)
        name = type(whole).__name__
        (temporary / model_card.FILE).write_text(
            model_card.merged_card(experiment, seed, policy, name), encoding="utf-8"
        )
        _write_manifest(temporary, experiment, policy, seed, adapter)
        check = _check(temporary, type(whole), (expected, base), inputs)
    return folder, check


def _adapter(experiment: str, policy: str, seed: int) -> str | None:
    """Return the digest of the policy's adapter, None for a bare base; raise UserError where it is not on disk."""
    folder = paths.adapter(experiment, seed, policy)
    remedy = f"run `dvc repro {training(experiment, seed, policy).lock_entry}` (or `dvc pull`) to make it"
    if not folder.is_dir():
        raise UserError(f"{folder}: no policy here; {remedy}")
    if policy == REFERENCE and read_json(folder / MANIFEST)["kind"] == "base":
        return None
    digest = adapter_fingerprint(folder)
    metrics = paths.metrics(experiment, policy, seed)
    recorded = read_json(metrics).get("adapter_sha256", digest)
    if digest != recorded:
        raise UserError(f"{folder}: not the adapter of {metrics}; run `dvc checkout`, or {remedy}")
    return digest


def _check_results(experiment: str) -> None:
    """Refuse results that are there and broken: the card would tell them."""
    evaluation, judges = (paths.metrics(experiment, name) for name in ("evaluation", "judge"))
    if evaluation.exists():
        shape.check(read_json(evaluation), str(evaluation))
    if judges.exists():
        judge_cards.read(judges)


def _check_free(folder: Path) -> None:
    """Refuse to replace anything but an earlier export."""
    if folder.exists() and not (folder.is_dir() and (not any(folder.iterdir()) or _is_export(folder))):
        raise UserError(f"{folder}: expected a new or empty folder or an earlier export; name another with --output")


def _is_export(folder: Path) -> bool:
    manifest = folder / MANIFEST
    return manifest.is_file() and read_json(manifest).get("kind") == "export"


def _inputs(experiment: str, model: Any, tokenizer: Any) -> list[Any]:
    """Return the token ids [1, P] of the first dev prompts, which no evaluation looks at."""
    import torch

    from pipeline.data.schema import read_prompts
    from pipeline.policy.prompts import tokenize_prompts

    path = paths.formatted(experiment, "dev")
    prompts = tokenize_prompts(read_prompts(path)[:PROMPTS], tokenizer, model, path)
    return [torch.tensor([prompt.token_ids]) for prompt in prompts]


def _logits(model: Any, inputs: Sequence[Any]) -> Any:
    """Return the logits [tokens, V] over all inputs; as labels an encoder-decoder decodes its own input."""
    import torch

    with torch.no_grad():
        ids = [item.to(model.device) for item in inputs]
        return torch.cat([model(input_ids=item, labels=item).logits[0].cpu() for item in ids])


def _check(folder: Path, model_class: Any, before: tuple[Any, Any], inputs: Sequence[Any]) -> Check:
    """Load a folder as its card says, and compare its logits with those of policy and base in `before`."""
    from pipeline.policy.loading import device

    loaded = model_class.from_pretrained(folder, local_files_only=True, use_safetensors=True).to(device()).eval()
    expected, base = before
    check = Check(
        difference=(_logits(loaded, inputs) - expected).abs().max().item(),
        allowed=TOLERANCE * expected.abs().max().item(),
        effect=(base - expected).abs().max().item(),
    )
    if not check.difference <= check.allowed:  # so that NaN is refused too
        raise UserError(
            f"model.source: {model_class.__name__}: merged, a logit differs by {check.difference:.3g} from the "
            f"policy's, expected at most {check.allowed:.3g}; load the adapter with PEFT instead"
        )
    return check


def _write_manifest(folder: Path, experiment: str, policy: str, seed: int, adapter: str | None) -> None:
    files = {path.name: file_digest(path) for path in sorted(folder.glob("*.safetensors"))}
    place = {"experiment": experiment, "policy": policy, "seed": seed}
    write_json(folder / MANIFEST, {"kind": "export", **place, "adapter_sha256": adapter, "sha256": files})


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Arguments(prog="python -m pipeline.apps.export", description=__doc__)
    parser.add_argument("experiment", help="name of a file in experiments/, without .yaml")
    parser.add_argument("method", choices=POLICIES, help="whose policy to export")
    parser.add_argument("--seed", type=int, help="of the training; default: the roster's first")
    parser.add_argument("--output", type=Path, help="folder to write; default: exports/<experiment>/<seed>/<method>")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Export and print what was written and checked; exit with code 2 and one message on bad input."""
    parsed = _parsed(arguments)
    try:
        seed = load_roster().seeds[0] if parsed.seed is None else parsed.seed
        folder, check = export(parsed.experiment, parsed.method, seed, parsed.output)
    except UserError as error:
        print(f"export: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        print(
            f"export: {parsed.output or 'exports'}: cannot be written: {error}; choose another --output",
            file=sys.stderr,
        )
        sys.exit(2)
    for path in sorted(folder.iterdir()):
        print(f"  {path} ({path.stat().st_size:,} bytes)")
    print(
        f"checked: loaded again, its logits differ from the policy's by at most {check.difference:.2g} "
        f"(allowed {check.allowed:.2g}; the policy's from the base's by {check.effect:.2g})"
    )


if __name__ == "__main__":
    main()
