"""In-silico half, experimental half, and both: on designs that a known network judges, and on effects held out.

Both are joined in two ways: ``joint`` has a half of the episodes under the effects of either, ``joint_effects`` has all
under the drift of the one and the effects of the other.

- Designs: haematopoiesis by a network of 11 genes whose dynamics are known. Cells start as progenitors, controls
  mature, others do so while one gene is over-expressed. Each twin learns from these cells, a policy learns on the twin
  to bring granulocytes to erythrocytes with at most two genes, and the network itself says how many arrive.
- Effects (Norman 2019): each single perturbation is left out in turn; cosine of the predicted and the measured shift.
- Paul 2015 has no perturbed cells: the experimental half cannot be built on it.
"""

from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from quiet import quiet, quiet_trainer
from rich.console import Console
from rich.table import Table

from perturbrl.data.dataset import load_dataset
from perturbrl.data.preprocessing import Preprocessor
from perturbrl.data.regulators import read_regulators
from perturbrl.embeddings.base import EncodedCells
from perturbrl.embeddings.pca import PCAEncoder
from perturbrl.envs.tasks import ReachCellState
from perturbrl.evaluation.simulation import simulate
from perturbrl.evaluation.statistics import mean_interval
from perturbrl.reporting.callback import design_problem, policy_design
from perturbrl.responses.kriging import Kriging
from perturbrl.responses.training_cells import TrainingCells
from perturbrl.schema import Expression
from perturbrl.training.datamodule import PerturbationDataModule
from perturbrl.training.options import PolicyOptions, RolloutOptions, StageSchedule, TrustRegionOptions
from perturbrl.training.two_stage import TwoStageModule
from perturbrl.twins.base import DigitalTwin, relax
from perturbrl.twins.drift_effects import drift_effects, known_unperturbed
from perturbrl.twins.joint import JointTwin
from perturbrl.twins.landscape import LandscapeTwin
from perturbrl.twins.network_data import simulate_perturb_seq
from perturbrl.twins.regulatory_network import RegulatoryNetworkTwin
from perturbrl.twins.response import ResponseTwin

NORMAN: Final = "norman2019_k562_crispra.h5ad"
SOURCE, TARGET = "granulocyte", "erythrocyte"
HALVES: Final = ("in_silico", "experimental", "joint", "joint_effects")
SHARES: Final = {"in_silico": 0.0, "joint": 0.5, "joint_effects": 1.0}
SCHEDULES: Final[tuple[StageSchedule, ...]] = ("alternate", "warm_start", "trust_region_only", "ppo_only")
FULL_SEEDS: Final = 10  # of fewer, one schedule is tried
HORIZON: Final = 3
ITERATIONS: Final = 40
JUDGED: Final = 256
_MATURE: Final = 0.6  # of the time of an experiment
_PROGENITOR: Final = {"Gata2": 0.8, "Cebpa": 0.5, "Pu1": 0.5}


def rows(folder: Path, seeds: int) -> dict[str, object]:
    """The keys of this part."""
    quiet()
    schedules = SCHEDULES if seeds >= FULL_SEEDS else SCHEDULES[:1]
    designs = pd.DataFrame(
        [
            {"schedule": schedule, "seed": seed} | {half: arrived(half, schedule, seed) for half in HALVES}
            for schedule in schedules
            for seed in range(seeds)
        ]
    )
    effects = held_out_effects(folder)
    _print(designs, effects)
    return _summary(designs, effects)


def arrived(half: str, schedule: StageSchedule, seed: int) -> float:
    """Share of granulocytes that the network brings to erythrocytes by a policy's mean doses."""
    truth = network()
    adata = experiment(truth, seed)
    data = PerturbationDataModule.from_adata(
        adata,
        f"cell_type={TARGET},perturbation=control",
        source=f"cell_type={SOURCE},perturbation=control",
        learn_target=True,
        n_top_genes=None,
        encoder=PCAEncoder(6),
        max_perturbations=2,
    )
    module = TwoStageModule(
        twin_of(half, seed),
        ReachCellState(goal="centroid", cost_l1=0.005),
        schedule,
        policy=PolicyOptions(init_log_std=-0.5),
        rollout=RolloutOptions(n_cells=512, horizon=HORIZON, settle=True),
        trust_region=TrustRegionOptions(max_kl=0.3),
        seed=seed,
    )
    trainer = quiet_trainer(ITERATIONS, accelerator="cpu")
    trainer.fit(module, data)
    problem = design_problem(module)
    start = problem.twin.start_cells[:JUDGED]
    doses = simulate(problem, policy_design(module), start).doses.mean(0)
    return judged(truth, problem.space.names, doses, seed)


def network() -> RegulatoryNetworkTwin:
    """The truth; one action is as long as one of a landscape whose sixty steps are a whole experiment."""
    return RegulatoryNetworkTwin("krumsiek11", steps_per_action=17)


def experiment(truth: RegulatoryNetworkTwin, seed: int) -> AnnData:
    """Progenitors that mature, some of them under over-expression of one gene."""
    generator = torch.Generator().manual_seed(seed)
    middle = torch.tensor([_PROGENITOR.get(gene, 0.1) for gene in truth.network.genes])
    spread = 0.15 * torch.randn(JUDGED, len(middle), generator=generator)
    truth.start_from((middle + spread).clamp(0, 1))
    adata = simulate_perturb_seq(truth, dose=1.0, cells_per_perturbation=60, control_cells=1200, seed=seed)
    mature = adata.obs["pseudotime"] > _MATURE
    adata.obs["cell_type"] = np.where(mature, adata.obs["fate"].astype(str), "progenitor")
    return adata


def twin_of(half: str, seed: int) -> DigitalTwin:
    """One half, or both."""
    if half not in SHARES:
        return ResponseTwin(seed=seed)
    return JointTwin(LandscapeTwin(seed=seed), ResponseTwin(seed=seed), SHARES[half])


@torch.no_grad()
def judged(truth: RegulatoryNetworkTwin, names: tuple[str, ...], doses: torch.Tensor, seed: int) -> float:
    """What the network does with these doses, from its granulocytes."""
    generator = torch.Generator().manual_seed(seed)
    state = truth.attractors()[SOURCE].expand(JUDGED, -1)
    member = truth.draw_members(JUDGED, generator)
    columns = [truth.perturbations.names.index(name) for name in names]
    for now in doses:
        dose = torch.zeros(JUDGED, truth.perturbations.n_perturbations)
        dose[:, columns] = now.to(dose)
        state = truth.next_state(state, dose, truth.draw_noise(JUDGED, generator), member)
    fates = truth.nearest_attractor(relax(truth, state, member, generator))
    return float(np.mean([fate == TARGET for fate in fates]))


def held_out_effects(folder: Path) -> pd.DataFrame:
    """Cosine of predicted with measured shifts, each single perturbation left out in turn."""
    dataset = load_dataset(folder / NORMAN)
    preprocessor = Preprocessor(n_top_genes=None)
    every = np.arange(dataset.n_cells)
    preprocessor.fit(dataset, every)
    expression, labels = preprocessor.transform(dataset, every), [str(label) for label in dataset.labels]
    singles = [str(label) for label in dataset.singles]
    genes = tuple(preprocessor.genes)
    return pd.DataFrame([_left_out(expression, labels, genes, name, folder) for name in singles])


def _left_out(
    expression: Expression, labels: list[str], genes: tuple[str, ...], name: str, folder: Path
) -> dict[str, object]:
    kept = [i for i, label in enumerate(labels) if name not in label.split("+")]
    encoder = PCAEncoder(20).fit(expression[kept])
    cells = EncodedCells(encoder.encode(expression), expression, tuple(labels), genes)
    measured = cells.mean_of(name) - cells.mean_of("control")
    others = cells.of_rows(torch.tensor(kept))
    response = Kriging().fit(TrainingCells(others.expression, others.labels, others.genes))
    regulators = read_regulators(folder / "prior" / "dorothea_hs_ABC.csv.gz")
    shift = torch.as_tensor(response.overall([name])).float() @ encoder.components.T
    found: dict[str, object] = {"perturbation": name, "experimental": _cosine(shift[0], measured)}
    known = known_unperturbed(others, [name], regulators)
    if not known:
        return found | {"in_silico": 0.0, "joint": found["experimental"]}
    in_silico = drift_effects(others, encoder, known, regulators=regulators)
    joint = drift_effects(others, encoder, known, regulators=regulators, response=response)
    return found | {
        "in_silico": _cosine(in_silico.rows[0], measured),
        "joint": _cosine(joint.rows[0], measured),
    }


def _cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.cosine_similarity(a, b, dim=0))


def _summary(designs: pd.DataFrame, effects: pd.DataFrame) -> dict[str, object]:
    gain, of_effects = (_gain(designs, half) for half in ("joint", "joint_effects"))
    return {
        "joint_gain": _interval(gain),
        "joint_gain_effects_on_drift": _interval(of_effects),
        "joint_success": {half: round(float(designs[half].mean()), 3) for half in HALVES},
        "joint_gain_by_schedule": {
            str(name): round(float(own.mean()), 3) for name, own in gain.groupby(designs["schedule"])
        },
        "joint_gain_norman": _interval(_gain(effects, "joint")),
        "joint_norman": {half: round(float(effects[half].mean()), 3) for half in HALVES[:3]},
        "joint_gain_paul": None,  # nobody perturbed these cells, so there is no experimental half to join
        "joint_seeds": int(designs["seed"].nunique()),
    }


def _gain(table: pd.DataFrame, joint: str) -> pd.Series:
    """Over the half that is better on average, run by run."""
    better = str(table[list(HALVES[:2])].mean().idxmax())
    return table[joint] - table[better]


def _interval(values: pd.Series) -> list[float]:
    found = mean_interval(values.to_numpy(dtype=float))
    return [round(value, 3) for value in (found.estimate, found.low, found.high)]


def _print(designs: pd.DataFrame, effects: pd.DataFrame) -> None:
    console = Console(width=120)
    for title, table, first in (
        ("cells that the network brings to the target", designs, ["schedule", "seed"]),
        ("cosine with the shift of a perturbation left out (Norman)", effects, ["perturbation"]),
    ):
        shown, halves = Table(title=title), [half for half in HALVES if half in table]
        for column in (*first, *halves):
            shown.add_column(column, justify="left" if column in first else "right")
        for _, row in table.iterrows():
            shown.add_row(*(str(row[one]) for one in first), *(f"{row[half]:.2f}" for half in halves))
        console.print(shown)
    console.print(
        "Paul 2015: no cell was perturbed, so there is no experimental half, and nothing to gain from."
    )
