"""From twin to data: an in-silico Perturb-seq experiment with counts, pseudotime and true fates."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from torch import Generator, Tensor

from perturbrl import schema
from perturbrl.data.labels import Label
from perturbrl.errors import ConfigurationError, listed
from perturbrl.schema import CellState, Dose
from perturbrl.twins.regulatory_network import RegulatoryNetworkTwin

Counts = NDArray[np.float32]


@dataclass(frozen=True)
class CountNoise:
    """How expression becomes counts: negative binomial with variance m + m^2 / ``dispersion``.

    Attributes:
        counts_per_gene: mean count of a fully expressed gene in a cell of average library size.
        leak: expression of a gene that is off, as a share of full expression.
        library_spread: standard deviation of the logarithm of the library size.
        gene_spread: standard deviation of the logarithm of the genes' capture.
        dispersion: size parameter; the larger, the closer to Poisson.
    """

    counts_per_gene: float = 100.0
    leak: float = 0.05
    library_spread: float = 0.25
    gene_spread: float = 0.5
    dispersion: float = 20.0

    def draw(self, expression: NDArray[np.float32], random: np.random.Generator) -> tuple[Counts, NDArray]:
        """Counts ``[cells, genes]`` and library sizes ``[cells]`` relative to the average cell."""
        cells, genes = expression.shape
        library = random.lognormal(-(self.library_spread**2) / 2, self.library_spread, (cells,))
        capture = random.lognormal(-(self.gene_spread**2) / 2, self.gene_spread, (genes,))
        share = self.leak + (1.0 - self.leak) * expression.clip(0.0, 1.0)
        mean = self.counts_per_gene * library[:, None] * capture * share
        rate = random.gamma(self.dispersion, mean / self.dispersion)
        return random.poisson(rate).astype(np.float32), library


def simulate_perturb_seq(
    twin: RegulatoryNetworkTwin,
    perturbations: Sequence[str] | None = None,
    *,
    dose: float = -1.0,
    cells_per_perturbation: int = 200,
    control_cells: int = 1000,
    duration: float = 20.0,
    snapshots: int = 20,
    count_noise: CountNoise | None = None,
    seed: int = 0,
) -> AnnData:
    """A pooled screen: cells leave ``twin.start_cells`` under a perturbation each and are read at some time.

    Args:
        twin: the network; where its cells start decides what is seen.
        perturbations: genes, or combinations ``A+B``; every dosable gene by default.
        dose: what a perturbed gene gets for the whole time; -1 is a knock-out.
        cells_per_perturbation: cells of each perturbation.
        control_cells: cells without perturbation.
        duration: time of the last snapshot; a cell's is drawn uniformly and is its pseudotime.
        snapshots: number of different times.
        count_noise: how counts are drawn.
        seed: of everything random.

    Returns:
        Counts in ``X`` and ``layers["counts"]``, noise-free expression in ``layers["expression"]``; in
        ``obs`` ``perturbation`` (``control``, ``A``, ``A+B``), ``nperts``, ``pseudotime`` in [0, 1], ``fate``
        (the steady state nearest to where the cell ends up under its perturbation) and ``library_size``.

    Raises:
        ConfigurationError: an unknown gene, or a dose outside [-1, 1].
    """
    names = tuple(twin.perturbations.names if perturbations is None else perturbations)
    labels = [schema.CONTROL_LABEL] * control_cells + [
        n for n in names for _ in range(cells_per_perturbation)
    ]
    doses = {name: _dose(twin, name, dose) for name in names} | {
        schema.CONTROL_LABEL: _dose(twin, schema.CONTROL_LABEL, dose)
    }
    generator = Generator().manual_seed(seed)
    step = torch.randint(1, snapshots + 1, (len(labels),), generator=generator)
    given = torch.stack([doses[label] for label in labels])
    seen, settled = _observe(twin, given, step, duration / snapshots, snapshots, generator)
    counts, library = (count_noise or CountNoise()).draw(seen.numpy(), np.random.default_rng(seed))
    obs = {
        schema.PERTURBATION_OBS: pd.Categorical(labels),
        "nperts": [len(Label.parse(name, doses=False).parts) for name in labels],
        "pseudotime": (step / snapshots).numpy(),
        "fate": pd.Categorical(twin.nearest_attractor(settled)),
        "library_size": library,
    }
    cells = pd.DataFrame(obs, index=[f"cell_{i}" for i in range(len(labels))])
    genes = pd.DataFrame(index=list(twin.network.genes))
    layers = {schema.COUNTS_LAYER: csr_matrix(counts), "expression": seen.numpy()}
    return AnnData(csr_matrix(counts), obs=cells, var=genes, layers=layers)


def _dose(twin: RegulatoryNetworkTwin, label: str, dose: float) -> Tensor:
    genes = Label.parse(label, doses=False).names
    unknown = [gene for gene in genes if gene not in twin.perturbations.names]
    if unknown:
        raise ConfigurationError(
            f"perturbation '{label}' doses {unknown}, which are not among the twin's genes "
            f"{listed(twin.perturbations.names, 12)}; correct the list or 'controllable'"
        )
    return torch.tensor([dose if name in genes else 0.0 for name in twin.perturbations.names])


def _observe(
    twin: RegulatoryNetworkTwin,
    dose: Dose,
    step: Tensor,
    interval: float,
    snapshots: int,
    generator: Generator,
) -> tuple[CellState, CellState]:
    """Each cell's state at its snapshot, and where it ends up under the same dose."""
    steps_between = max(1, round(interval / twin.dynamics.dt))
    state = twin.initial_state(dose.shape[0], generator)
    member = twin.draw_members(dose.shape[0], generator)
    seen = state.clone()
    for snapshot in range(1, snapshots + 1):
        state = twin.simulate(state, steps_between, dose, generator, member)
        seen = torch.where((step == snapshot)[:, None], state, seen)
    return seen, twin.simulate(state, steps_between * snapshots, dose, generator, member)
