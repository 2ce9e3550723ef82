"""A large screen simulated from modules of genes, whose expected shifts are known exactly.

Perturbed genes belong to modules, and those of a module do much the same. Most do little and few do much (strengths are
log-normal). The log share of gene g in a cell is ``a = base + (z + e) @ W`` with program loadings W of length 1 by
gene, the cell's own state z ~ N(0, cell_noise²) and the effect e of its perturbations. Counts are negative binomial
around ``depth * exp(a)``; ``depth`` is the size factor of every cell, in ``obs["n_umis_full"]``. So the expected
log1p(counts per 10,000) is a function of base + e @ W alone, which is integrated numerically.

A pair of one module does half of what its parts do together, for they act through the same; another pair has an
interaction of its own. A context moves the base along the programs and makes each program respond more or less, alike
in contexts that are alike. A dose d of a series up to D does (d/D)^½ of the whole effect.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from jaxtyping import Float, Int
from scipy.interpolate import CubicSpline
from scipy.stats import nbinom

from perturbrl.data.labels import CONTROL, Label, Part
from perturbrl.errors import ConfigurationError
from perturbrl.schema import CELL_TYPE_OBS, CONTROL_LABEL, DOSE, PERTURBATION_OBS

DEPTH_OBS: Final = "n_umis_full"
N_PROGRAMS: Final = 30
_BLOCK: Final = 4096
_SCALE: Final = 1e4

Programs = Float[np.ndarray, "_ programs"]


@dataclass(frozen=True)
class ModuleScreenOptions:
    """How large the screen is and what it is like.

    Attributes:
        n_perturbations: perturbed genes.
        n_genes: measured genes.
        n_modules: modules that the perturbed genes are shared among.
        n_control: control cells of each context.
        cells_per_population: cells of each perturbation in each context and at each dose.
        n_combinations: pairs; half of them within a module.
        contexts: names of cell types; none is one without a name.
        doses: doses of each single perturbation; none is no dose.
        of_module: share of the variance of an effect that its module explains.
        effect_size: typical log fold change of a gene, up or down.
        spread: standard deviation of the logarithm of a perturbation's strength.
        interaction: length of a pair's own interaction, as a share of its parts' effect.
        cell_noise: standard deviation of a gene's log share between cells.
        depth: counts of a cell.
        dispersion: of the counts; variance is mean + dispersion · mean².
        seed: of everything drawn.

    Raises:
        ConfigurationError: a number is too low, or there are more pairs than can be.
    """

    n_perturbations: int = 2000
    n_genes: int = 500
    n_modules: int = 100
    n_control: int = 2000
    cells_per_population: int = 20
    n_combinations: int = 0
    contexts: tuple[str, ...] = ()
    doses: tuple[float, ...] = ()
    of_module: float = 0.7
    effect_size: float = 0.15
    spread: float = 0.6
    interaction: float = 0.3
    cell_noise: float = 0.3
    depth: float = 5000.0
    dispersion: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        sizes = (self.n_perturbations, self.n_genes, self.n_modules, self.n_control)
        if min(*sizes, self.cells_per_population) < 1 or not 0 <= self.of_module <= 1:
            raise ConfigurationError(
                "a screen of modules needs at least one perturbation, gene, module, control cell and cell of each "
                "population, and of_module between 0 and 1"
            )
        n_pairs = self.n_perturbations * (self.n_perturbations - 1) // 2
        if not 0 <= self.n_combinations <= n_pairs // 4:
            raise ConfigurationError(
                f"{self.n_perturbations} perturbations have {n_pairs} pairs, and at most a quarter of them can be "
                f"measured; n_combinations is {self.n_combinations}"
            )


@dataclass(frozen=True, eq=False)
class ModuleScreen:
    """The cells and the truth about them.

    Attributes:
        adata: counts with labels, size factors and, where there are several, cell types and doses.
        modules: members of each module.
        conditions: label and context of each population but the controls.
        shifts: ``[conditions, genes]`` expected shift of mean log1p(counts per 10,000) from control.
        controls: expected mean log expression of each context's control cells.
    """

    adata: AnnData
    modules: dict[str, tuple[str, ...]]
    conditions: tuple[tuple[Label, str], ...]
    shifts: Float[np.ndarray, "conditions genes"]
    controls: dict[str, Float[np.ndarray, " genes"]]

    def noisy_modules(self, noise: float, seed: int = 0) -> dict[str, tuple[str, ...]]:
        """The modules as a database has them: a share of the members is missing and as many strangers are in."""
        rng = np.random.default_rng(seed)
        everyone = sorted({name for members in self.modules.values() for name in members})
        found = {}
        for module, members in self.modules.items():
            n_wrong = round(noise * len(members))
            kept = rng.permutation(members)[n_wrong:].tolist()
            others = sorted(set(everyone) - set(members))
            found[module] = tuple(sorted([*kept, *rng.permutation(others)[:n_wrong].tolist()]))
        return found


def write_gene_sets(path: Path | str, sets: dict[str, tuple[str, ...]]) -> None:
    """A GMT file: name, description and members of each set, separated by tabs."""
    lines = ["\t".join((name, "simulated", *members)) for name, members in sets.items()]
    Path(path).write_text("\n".join(lines) + "\n")


def simulate_module_screen(options: ModuleScreenOptions = ModuleScreenOptions()) -> ModuleScreen:
    """Simulate a screen of modules (see the module's text)."""
    rng = np.random.default_rng(options.seed)
    names = [f"GENE{i:04d}" for i in range(max(options.n_perturbations, options.n_genes))]
    members = rng.permutation(np.arange(options.n_perturbations) % options.n_modules)
    effects = _effects(rng, options, members)
    labelled = _labelled(rng, options, names, members, effects)
    loadings = rng.normal(size=(N_PROGRAMS, options.n_genes))
    loadings /= np.linalg.norm(loadings, axis=0)
    contexts = dict(_contexts(rng, options, loadings))
    populations = [
        (label, context, base, effect * response)
        for context, (base, response) in contexts.items()
        for label, effect in [(CONTROL, np.zeros(N_PROGRAMS)), *labelled.items()]
    ]
    expected = _Expected(options.depth, options.dispersion, options.cell_noise)
    means = np.stack([expected(base + effect @ loadings) for _, _, base, effect in populations])
    controls = {
        where: mean for (label, where, _, _), mean in zip(populations, means, strict=True) if label.is_control
    }
    perturbed = [i for i, (label, *_) in enumerate(populations) if not label.is_control]
    return ModuleScreen(
        _adata(rng, options, populations, loadings, names[: options.n_genes]),
        {
            f"MODULE{m:03d}": tuple(names[i] for i in np.flatnonzero(members == m))
            for m in range(options.n_modules)
        },
        tuple((populations[i][0], populations[i][1]) for i in perturbed),
        np.stack([means[i] - controls[populations[i][1]] for i in perturbed]),
        controls,
    )


def _effects(
    rng: np.random.Generator, options: ModuleScreenOptions, members: Int[np.ndarray, " perturbations"]
) -> Programs:
    """Effect of each perturbation: its module's and its own direction, times its strength."""
    of_module = rng.normal(size=(options.n_modules, N_PROGRAMS))
    own = rng.normal(size=(options.n_perturbations, N_PROGRAMS))
    direction = options.of_module**0.5 * of_module[members] + (1 - options.of_module) ** 0.5 * own
    strength = rng.lognormal(0.0, options.spread, size=(options.n_perturbations, 1))
    return options.effect_size * strength * direction


def _labelled(
    rng: np.random.Generator,
    options: ModuleScreenOptions,
    names: Sequence[str],
    members: Int[np.ndarray, " perturbations"],
    effects: Programs,
) -> dict[Label, Float[np.ndarray, " programs"]]:
    doses: tuple[float | None, ...] = options.doses or (None,)
    largest = max(options.doses, default=1.0)
    found = {
        Label([Part(names[i], dose)]): effect * ((dose or largest) / largest) ** 0.5
        for (i, effect), dose in product(enumerate(effects), doses)
    }
    whole = doses[-1] if options.doses else None
    for i, j in _pairs(rng, options, members):
        both = effects[i] + effects[j]
        own = rng.normal(size=N_PROGRAMS) / N_PROGRAMS**0.5 * options.interaction * np.linalg.norm(both)
        joint = both / 2 if members[i] == members[j] else both + own
        found[Label([Part(names[i], whole), Part(names[j], whole)])] = joint
    return found


def _pairs(
    rng: np.random.Generator, options: ModuleScreenOptions, members: Int[np.ndarray, " perturbations"]
) -> list[tuple[int, int]]:
    """Different pairs, half of them within a module as far as there are any."""
    found: set[tuple[int, int]] = set()
    within = [np.flatnonzero(members == m) for m in range(options.n_modules)]
    within = [group for group in within if len(group) > 1]
    for _ in range(options.n_combinations // 2 if within else 0):
        i, j = sorted(rng.choice(within[rng.integers(len(within))], 2, replace=False).tolist())
        found.add((i, j))
    while len(found) < options.n_combinations:
        i, j = sorted(rng.choice(options.n_perturbations, 2, replace=False).tolist())
        found.add((i, j))
    return sorted(found)


def _contexts(
    rng: np.random.Generator, options: ModuleScreenOptions, loadings: Float[np.ndarray, "programs genes"]
) -> Iterator[tuple[str, tuple[Float[np.ndarray, " genes"], Float[np.ndarray, " programs"]]]]:
    """Base of each context and how strongly each program responds in it."""
    base = rng.normal(0.0, 1.2, size=options.n_genes)
    base -= np.log(np.exp(base).sum()) + options.cell_noise**2 / 2
    if not options.contexts:
        yield "", (base, np.ones(N_PROGRAMS))
        return
    for context in options.contexts:
        place = rng.normal(size=N_PROGRAMS)
        yield context, (base + 0.5 * place @ loadings, 1.0 + 0.4 * np.tanh(place))


class _Expected:
    """Mean log1p(counts per 10,000) of a gene by the logarithm of its share, over counts and cells."""

    def __init__(self, depth: float, dispersion: float, cell_noise: float) -> None:
        grid = np.linspace(np.log(1e-4), np.log(depth) + 3.0, 300)
        self._of_mean = CubicSpline(grid, [self._at(np.exp(one), depth, dispersion) for one in grid])
        nodes, weights = np.polynomial.hermite_e.hermegauss(21)
        self._off, self._weights = cell_noise * nodes, weights / weights.sum()
        self._lowest, self._log_depth = grid[0], np.log(depth)

    @staticmethod
    def _at(mean: float, depth: float, dispersion: float) -> float:
        size = 1.0 / dispersion
        counts = np.arange(int(mean + 14 * (mean + dispersion * mean**2) ** 0.5) + 30)
        return float(nbinom.pmf(counts, size, size / (size + mean)) @ np.log1p(_SCALE * counts / depth))

    def __call__(self, log_share: Float[np.ndarray, " genes"]) -> Float[np.ndarray, " genes"]:
        log_mean = np.maximum(log_share[:, None] + self._off + self._log_depth, self._lowest)
        return np.asarray(self._of_mean(log_mean) @ self._weights)


def _adata(
    rng: np.random.Generator,
    options: ModuleScreenOptions,
    populations: Sequence[tuple[Label, str, np.ndarray, np.ndarray]],
    loadings: Float[np.ndarray, "programs genes"],
    genes: Sequence[str],
) -> AnnData:
    sizes = [options.n_control if one[0].is_control else options.cells_per_population for one in populations]
    group = rng.permutation(np.repeat(np.arange(len(populations)), sizes))
    bases, effects = (np.stack([one[k] for one in populations]) for k in (2, 3))
    blocks = []
    for rows in np.array_split(group, -(-len(group) // _BLOCK)):
        state = effects[rows] + options.cell_noise * rng.normal(size=(len(rows), N_PROGRAMS))
        mean = options.depth * np.exp(bases[rows] + state @ loadings)
        noise = rng.gamma(1.0 / options.dispersion, options.dispersion, size=mean.shape)
        blocks.append(sp.csr_matrix(rng.poisson(mean * noise), dtype=np.float32))
    obs = pd.DataFrame(index=[f"cell{i:06d}" for i in range(len(group))])
    labels = [one[0] for one in populations]
    texts = ["+".join(label.names) or CONTROL_LABEL for label in labels]
    obs[PERTURBATION_OBS] = pd.Categorical(np.array(texts)[group])
    obs[DEPTH_OBS] = options.depth
    if options.contexts:
        obs[CELL_TYPE_OBS] = pd.Categorical(np.array([one[1] for one in populations])[group])
    if options.doses:
        given = ["+".join(f"{part.dose:g}" for part in label.parts) or "0" for label in labels]
        obs[DOSE] = pd.Categorical(np.array(given)[group])
    return AnnData(sp.vstack(blocks, format="csr"), obs=obs, var=pd.DataFrame(index=list(genes)))
