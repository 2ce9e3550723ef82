"""Growth of simulated pairs, with interactions of few factors or none."""

from pathlib import Path

import numpy as np

from perturbrl.data.labels import Label
from perturbrl.data.outcomes import Outcomes
from perturbrl.planning.outcome_search import PairPanel


def pairs_of(n_members: int) -> np.ndarray:
    return np.column_stack(np.triu_indices(n_members, 1))


def growth(
    n_members: int = 24, interaction: float = 0.1, noise: float = 0.02, seed: int = 0
) -> tuple[PairPanel, np.ndarray]:
    """A panel and the outcome of every pair: the singles' sum, a product of two hidden factors, and noise."""
    rng = np.random.default_rng(seed)
    singles, pairs = -0.3 * rng.random(n_members), pairs_of(n_members)
    hidden = rng.normal(size=(n_members, 2))
    product = (hidden[pairs[:, 0]] * hidden[pairs[:, 1]] * [1.0, -1.0]).sum(axis=1)
    values = singles[pairs].sum(axis=1) + interaction * product + noise * rng.normal(size=len(pairs))
    names = tuple(f"G{i:02d}" for i in range(n_members))
    return PairPanel(names, pairs, singles), values


def outcomes_of(panel: PairPanel, values: np.ndarray, n_measured: int, seed: int = 0) -> Outcomes:
    """All singles and some of the pairs."""
    rows = np.random.default_rng(seed).permutation(len(values))[:n_measured]
    pairs = {
        Label.parse("+".join(panel.names[i] for i in panel.pairs[row])): float(values[row]) for row in rows
    }
    return Outcomes(dict(zip(panel.names, panel.singles.tolist(), strict=True)), pairs)


def written(folder: Path, outcomes: Outcomes) -> list[Path]:
    """As a table of singles and a table of pairs."""
    singles, pairs = folder / "singles.csv", folder / "pairs.csv"
    singles.write_text("name,growth\n" + "".join(f"{k},{v}\n" for k, v in outcomes.singles.items()))
    pairs.write_text(
        "a,b,growth\n" + "".join(f"{k.names[0]},{k.names[1]},{v}\n" for k, v in outcomes.pairs.items())
    )
    return [singles, pairs]
