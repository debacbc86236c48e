"""How uncertain a mean over prompts and seeds is, and how uncertain that itself is with few of them.

Shapes: P prompts, S seeds, R draws. A missing value is NaN and takes no part.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Components:
    """What the variance of a mean is made of: prompts, seeds, and the noise that both of these contain.

    The variance is `prompts + seeds - noise`, each the mean square of a crossed two-way analysis of variance with
    random effects, one value a cell (Searle, Casella and McCulloch 1992), over the number of cells. `degrees` are their
    degrees of freedom; a component with 0 of them is 0. `bootstrap` is the variance that the mean has in resamples of
    prompts and seeds (Owen 2007).
    """

    prompts: float
    seeds: float
    noise: float
    degrees: tuple[int, int, int]
    bootstrap: float

    @property
    def variance(self) -> float:
        """The estimated variance of the mean; not below its share of noise alone."""
        return max(self.prompts + self.seeds - self.noise, self.noise)


class Uncertainty:
    """Draws of how far a mean square may lie from its expectation, the same for every estimate.

    A variance drawn with them is one that the data allow: every mean square times its degrees of freedom over a
    chi-square draw, added up as in `Components`, never below what noise alone leaves. With normal deviations of that
    size this is a generalised (fiducial) interval (Weerahandi 1993; Hannig, Iyer and Patterson 2006), and with one seed
    Student's t.
    """

    def __init__(self, draws: int, generator: np.random.Generator) -> None:
        self._uniforms = 1 - generator.random((3, draws))  # in (0, 1]: no chi-square draw is 0
        self._factors: dict[tuple[int, int], Array] = {}

    def variances(self, found: Components) -> Array:
        """Return draws [R] of the variance of the mean."""
        prompts, seeds, noise = (
            square * self._factor(which, degrees) if degrees else 0.0
            for which, (square, degrees) in enumerate(
                zip((found.prompts, found.seeds, found.noise), found.degrees, strict=True)
            )
        )
        return np.asarray(np.maximum(prompts + seeds - noise, noise))

    def _factor(self, which: int, degrees: int) -> Array:
        """Return degrees of freedom over chi-square draws [R] for one of the three components; kept, for it is slow."""
        from scipy.special import gammaincinv

        if (which, degrees) not in self._factors:
            self._factors[which, degrees] = degrees / (2 * gammaincinv(degrees / 2, self._uniforms[which]))
        return self._factors[which, degrees]


def components(cells: Array) -> Components:
    """Return what the variance of the mean of [P, S] values is made of; a prompt or seed without any value is dropped.

    With missing values the residuals of row and column means stand for those of least squares: close where few miss.
    """
    present = ~np.isnan(cells)
    if not present.any():
        return Components(prompts=0.0, seeds=0.0, noise=0.0, degrees=(0, 0, 0), bootstrap=0.0)
    rows, columns = present.any(axis=1), present.any(axis=0)
    kept = present[rows][:, columns]
    values = cells[rows][:, columns]
    count, (prompts, seeds) = int(kept.sum()), kept.shape
    degrees = (prompts - 1, seeds - 1, max(count - prompts - seeds + 1, 0))
    first = values[kept][0]  # taken off before the mean, so that a constant leaves exactly 0
    centered = np.where(kept, values - first, 0.0)
    centered = np.where(kept, centered - centered.sum() / count, 0.0)
    by_prompt, by_seed = centered.sum(axis=1), centered.sum(axis=0)
    fitted = (by_prompt / kept.sum(axis=1))[:, None] + (by_seed / kept.sum(axis=0))[None, :]
    residuals = np.where(kept, centered - fitted, 0.0)
    of_prompts, of_seeds, of_noise = (float(np.sum(sums**2)) for sums in (by_prompt, by_seed, residuals))
    bootstrap = np.sum(centered**2) + (1 - 1 / cells.shape[1]) * of_prompts + (1 - 1 / len(cells)) * of_seeds
    return Components(
        prompts=of_prompts * prompts / degrees[0] / count**2 if degrees[0] else 0.0,
        seeds=of_seeds * seeds / degrees[1] / count**2 if degrees[1] else 0.0,
        noise=of_noise / degrees[2] / count if degrees[2] else 0.0,
        degrees=degrees,
        bootstrap=float(bootstrap) / count**2,
    )
