"""A Perturb-seq screen simulated from known effects, for tests and for trying things without data."""

from itertools import combinations
from typing import Final

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from perturbrl.errors import ConfigurationError
from perturbrl.schema import COMBINATION_SEPARATOR, CONTROL_LABEL, PERTURBATION_OBS

TRUE_EFFECTS_VARM: Final = "true_effects"
TRUE_LABELS_UNS: Final = "true_effect_labels"


def simulate_screen(
    n_perturbations: int = 8,
    n_genes: int = 200,
    n_control: int = 200,
    cells_per_perturbation: int = 60,
    n_combinations: int = 4,
    effect_size: float = 1.0,
    seed: int = 0,
    *,
    n_programs: int = 10,
    cell_noise: float = 0.3,
    interaction: float = 0.0,
    depth: float = 5000.0,
    dispersion: float = 0.1,
) -> AnnData:
    """Simulate single perturbations of the first genes, some of their pairs, and control cells.

    A cell's log expression is ``baseline + (z + e) @ W``: W are the loadings of ``n_programs`` gene programs
    with unit-variance columns, z ~ N(0, cell_noise²) the cell's own state, e the sum of the effects of its
    perturbations plus, for a pair, ``interaction`` times a random direction of its own. Perturbing gene i
    moves the cell by ``effect_size`` along the direction in which gene i itself is loaded, so what varies
    together in control cells tells something of the effects. Counts are negative binomial with a log-normal
    library size around ``depth`` and variance ``mean + dispersion * mean²``.

    Returns:
        AnnData: counts in ``X`` (CSR float32), ``obs["perturbation"]``, cells in random order.
        ``varm["true_effects"]`` [genes, labels] is the true change of log expression (before the library size
        is shared among genes) and ``uns["true_effect_labels"]`` names its columns.

    Raises:
        ConfigurationError: more perturbations than genes, more pairs than there are, or a number too low.
    """
    _check(n_perturbations, n_genes, n_control, cells_per_perturbation, n_combinations)
    rng = np.random.default_rng(seed)
    genes = [f"GENE{i:04d}" for i in range(n_genes)]
    loadings = rng.normal(size=(n_programs, n_genes)) / np.sqrt(n_programs)
    directions = loadings[:, :n_perturbations].T
    singles = effect_size * directions / np.linalg.norm(directions, axis=1, keepdims=True)
    pairs = list(combinations(range(n_perturbations), 2))
    pairs = [pairs[i] for i in sorted(rng.choice(len(pairs), n_combinations, replace=False))] if pairs else []
    own = interaction * rng.normal(size=(len(pairs), n_programs)) / np.sqrt(n_programs)
    effects = np.vstack(
        [singles, *(singles[[i]] + singles[[j]] + own[[k]] for k, (i, j) in enumerate(pairs))]
    )
    labels = genes[:n_perturbations] + [COMBINATION_SEPARATOR.join((genes[i], genes[j])) for i, j in pairs]

    group = np.repeat(np.arange(len(labels) + 1), [n_control] + [cells_per_perturbation] * len(labels))
    group = rng.permutation(group)
    state = np.vstack([np.zeros(n_programs), effects])[group]
    state += cell_noise * rng.normal(size=state.shape)
    baseline = rng.normal(0.0, 1.0, n_genes)
    counts = _counts(rng, baseline + state @ loadings, depth, dispersion)
    adata = AnnData(
        sp.csr_matrix(counts, dtype=np.float32),
        obs=pd.DataFrame(
            {PERTURBATION_OBS: pd.Categorical(np.array([CONTROL_LABEL, *labels])[group])},
            index=[f"cell{i:06d}" for i in range(len(group))],
        ),
        var=pd.DataFrame(index=genes),
    )
    adata.varm[TRUE_EFFECTS_VARM] = (effects @ loadings).T
    adata.uns[TRUE_LABELS_UNS] = labels
    return adata


def _counts(
    rng: np.random.Generator, log_expression: np.ndarray, depth: float, dispersion: float
) -> np.ndarray:
    share = np.exp(log_expression - log_expression.max(axis=1, keepdims=True))
    library = depth * rng.lognormal(0.0, 0.3, size=(len(share), 1))
    mean = library * share / share.sum(axis=1, keepdims=True)
    return rng.poisson(mean * rng.gamma(1.0 / dispersion, dispersion, size=mean.shape))


def _check(
    n_perturbations: int, n_genes: int, n_control: int, per_perturbation: int, n_combinations: int
) -> None:
    if min(n_perturbations, n_control, per_perturbation) < 1 or n_combinations < 0:
        raise ConfigurationError(
            "a screen needs at least one perturbation, control cell and cell per perturbation"
        )
    if n_perturbations > n_genes:
        raise ConfigurationError(
            f"{n_perturbations} perturbations of {n_genes} genes: give as many genes at least"
        )
    n_pairs = n_perturbations * (n_perturbations - 1) // 2
    if n_combinations > n_pairs:
        raise ConfigurationError(
            f"{n_perturbations} perturbations have {n_pairs} pairs, fewer than {n_combinations}"
        )
