"""Named reprogramming tasks between attractors, whose best possible result is known exactly.

The ``deceptive`` tasks lead through a detour that raises the distance to the target, or past a nearer wrong
attractor; the ``easy`` ones are solved by one-step greed, so nothing should beat it there; the ``ladder``
ones scale as far as one likes (see ``trap_ladder``).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Final, Literal

from perturbrl.errors import ConfigurationError
from perturbrl.networks.attractors import named_attractors
from perturbrl.networks.boolean_network import BooleanNetwork, load_network
from perturbrl.networks.interventions import Duration, minimal_interventions
from perturbrl.networks.macro_mdp import MacroMDP, macro_mdp
from perturbrl.twins.boolean import BooleanNetworkTwin
from perturbrl.twins.macro import MacroTwin
from perturbrl.twins.regulatory_network import RegulatoryNetworkTwin

Kind = Literal["deceptive", "easy", "ladder"]


@dataclass(frozen=True)
class ReprogrammingTask:
    """Turn cells of one attractor into cells of another by dosing the allowed genes.

    Attributes:
        name: key in ``TASK_SUITE``.
        kind: what the landscape does to a greedy planner.
        network: name for ``load_network``.
        source: attractor to start from.
        target: attractor to reach.
        controllable: genes that may be dosed; ``None`` is all.
        horizon: actions per episode, enough for the detour to pay.
    """

    name: str
    kind: Kind
    network: str
    source: str
    target: str
    controllable: tuple[str, ...] | None = None
    horizon: int = 12

    def boolean_twin(self) -> BooleanNetworkTwin:
        """The asynchronous twin, starting from the source; ``mdp`` is exact on it."""
        return BooleanNetworkTwin(self.network, self.controllable, self.source)

    def macro_twin(self) -> MacroTwin:
        """The asynchronous twin from a table of its exact outcomes, starting from the source."""
        return MacroTwin(self.network, self.controllable, self.source)

    def continuous_twin(
        self, noise: float = 0.05, n_members: int = 1, seed: int = 0
    ) -> RegulatoryNetworkTwin:
        """The differential equations of the same network, starting from the source."""
        return RegulatoryNetworkTwin(
            self.network, self.controllable, self.source, noise=noise, n_members=n_members, seed=seed
        )

    @cached_property
    def boolean_network(self) -> BooleanNetwork:
        """The parsed network."""
        return load_network(self.network)

    @cached_property
    def mdp(self) -> MacroMDP:
        """The exact decision process of one-gene actions between attractors."""
        return macro_mdp(self.boolean_network, self.controllable)

    def best_success(self) -> list[float]:
        """Best probability of having arrived within 1, 2, ..., ``horizon`` actions."""
        values = self.mdp.optimal_values(self.target, self.horizon)
        return values[1:, self.mdp.node(self.source)].tolist()

    def minimal_interventions(
        self, duration: Duration = "temporary", max_genes: int = 3
    ) -> list[dict[str, int]]:
        """The smallest sets of allowed genes that, held together once, are certain to arrive."""
        found = named_attractors(self.boolean_network)
        return minimal_interventions(
            self.boolean_network,
            found[self.source],
            found[self.target],
            controllable=self.controllable,
            duration=duration,
            max_genes=max_genes,
        )


def ladder_task(rungs: int, readouts: int, *, trapped: bool = False) -> ReprogrammingTask:
    """The trap ladder of any size: ``rungs`` actions are the optimum, one more from inside the trap."""
    genes = (*(f"c{i}" for i in range(1, rungs + 1)), "d")
    network, source = f"synthetic_trap_ladder_L{rungs}_m{readouts}", "trap_D" if trapped else "source_A"
    name = f"L{rungs}m{readouts}{'t' if trapped else ''}"
    return ReprogrammingTask(name, "ladder", network, source, "target_B", genes, horizon=3 * rungs)


_MYELOID_FIXED: Final = ("Gata2", "Gata1", "Fog1", "EKLF", "Fli1", "SCL", "Cebpa")
_GATA_FIXED: Final = ("Fog1", "EKLF", "Fli1", "SCL", "Cebpa", "Pu1", "cJun")
_B_GENES_FIXED: Final = ("UFO", "FUL", "FT", "AP1", "AG")
_FLOWER: Final = "arabidopsis_flower_chaos2006"


def _curated(name: str, kind: Kind, network: str, source: str, target: str, *genes: str) -> ReprogrammingTask:
    return ReprogrammingTask(name, kind, network, source, target, genes or None)


TASK_SUITE: Final[Mapping[str, ReprogrammingTask]] = MappingProxyType(
    {
        task.name: task
        for task in (
            _curated("D1", "deceptive", "krumsiek11", "monocyte", "granulocyte", *_MYELOID_FIXED),
            _curated("D2", "deceptive", "krumsiek11", "granulocyte", "erythrocyte", *_GATA_FIXED),
            _curated("D3", "deceptive", "krumsiek11", "granulocyte", "megakaryocyte", *_GATA_FIXED),
            _curated(
                "D4", "deceptive", "krumsiek11", "megakaryocyte", "monocyte_like_Cebpa_off", *_MYELOID_FIXED
            ),
            _curated("D5", "deceptive", "krumsiek11", "granulocyte", "all_off"),
            _curated(
                "D8", "deceptive", _FLOWER, "stamen_UFO0", "petal_UFO0", "AP3", "UFO", "FUL", "FT", "LFY"
            ),
            _curated("D9", "deceptive", _FLOWER, "petal_UFO0", "sepal", *_B_GENES_FIXED),
            _curated("D10", "deceptive", _FLOWER, "stamen_UFO0", "carpel", *_B_GENES_FIXED),
            _curated(
                "D11",
                "deceptive",
                _FLOWER,
                "inflorescence_1",
                "stamen_UFO0",
                "UFO",
                "FUL",
                "FT",
                "AP1",
                "EMF1",
            ),
            _curated("S1", "easy", "krumsiek11", "erythrocyte", "monocyte"),
            _curated("S2", "easy", "krumsiek11", "erythrocyte", "granulocyte"),
            _curated("S3", "easy", "krumsiek11", "granulocyte", "megakaryocyte"),
            _curated("S4", "easy", "vsc", "p0", "p3"),
            ladder_task(2, 4),
            ladder_task(4, 6),
            ladder_task(4, 6, trapped=True),
        )
    }
)


_LADDER: Final = re.compile(r"L(\d+)(?:m(\d+))?(t?)$")


def reprogramming_task(name: str) -> ReprogrammingTask:
    """A task by name: one of ``TASK_SUITE``, or a ladder of any size.

    ``L6m4`` is the ladder of 6 rungs and 4 readouts, ``L6m4t`` the same from inside the trap; without a number of
    readouts there are two more than rungs, so ``L4`` is ``L4m6``.

    Raises:
        ConfigurationError: there is no such task.
    """
    ladder = _LADDER.match(name)
    if name not in TASK_SUITE and ladder is None:
        raise ConfigurationError(
            f"there is no task '{name}'; choose one of {', '.join(TASK_SUITE)}, or a ladder such as L6m4"
        )
    if ladder is None:
        return TASK_SUITE[name]
    rungs = int(ladder[1])
    return ladder_task(rungs, int(ladder[2] or rungs + 2), trapped=bool(ladder[3]))
