"""The methods of the escape study: what each one is, and the settings that all of them share.

Every trained method is the same module with the same networks, batches and critic; they differ in the schedule, the
step size and two kinds of help, which any of them may have, so that a difference can be put down to the right thing:

- restarts: three of four episodes start in a randomly drawn attractor (a simulator can be reset anywhere)
- entropy: a bonus of half a standard deviation per nat, falling to 0 over the version's ``exploring_frames``

``alternate``, ``trust_region_only`` and ``warm_start_*`` have both, like ``ppo_only_helped``; ``ppo_only`` and
``alternate_unhelped`` have neither. What was tuned, and on what: amount and length of the help, and that the radius
falls, by trials of ``alternate`` on D3, D8, D10, L4, L4t and a ladder of 6 rungs; the radius, PPO's target and clipped
PPO's rate by a sweep of 5 values each on ``SWEEP_TASKS``; the rest was not tuned. Larger steps of stage 2, smaller
batches for all, more epochs of the critic and radii of 0.03 and 0.3 were tried, too, and won nothing. Seeds of trials
and sweeps are 0, 1, ..., those of the tables begin at ``FIRST_SEED``.

PPO here keeps this project's safeguards (a step size that adapts, a KL stop, steps taken back that worsened the
objective), also where it is clipped; plain clipped PPO is ``sb3_ppo``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Literal

from perturbrl.training.options import StageSchedule

Kind = Literal["trained", "exact", "search", "outside"]
Options = Mapping[str, dict[str, Any]]

RESTARTS: Final = {"restart_fraction": 0.75}
ENTROPY: Final = {"entropy_bonus": 0.5}
HELP: Final = RESTARTS | ENTROPY
_PENALISED: Final = {"learning_rate": 3e-3, "target_kl": 0.1}
CLIPPED: Final = {"clip_epsilon": 0.2, "target_kl": 10.0, "kl_coef": 1e-4}


@dataclass(frozen=True)
class Version:
    """What the tasks are made of.

    Attributes:
        reward: of ``ReachCellState``: ``closeness`` makes time spent far away cost, ``progress`` only the end count.
        frames: budget of a run.
        exploring_frames: frames over which an entropy bonus falls to 0.
        stops_when_solved: end a run when it reaches 0.9, because only the frames up to there are asked for.
        continuous: doses on stochastic differential equations instead of one clamp at a time.
    """

    reward: str
    frames: int
    exploring_frames: int
    stops_when_solved: bool = False
    continuous: bool = False


VERSIONS: Final[Mapping[str, Version]] = MappingProxyType(
    {
        "boolean": Version("closeness", 122_880, 32_768),
        "patient": Version("closeness", 2_000_000, 32_768, stops_when_solved=True),
        "scaling": Version("progress", 1_000_000, 200_000, stops_when_solved=True),
        "ode": Version("closeness", 163_840, 81_920, continuous=True),
    }
)
N_CELLS: Final = 256
HORIZON: Final = 16
BASE: Final[Options] = {
    "policy": {"hidden_sizes": (64, 64)},
    "trust_region": {"max_kl": 0.1, "max_kl_annealing": "linear", "cg_damping": 0.01},
    "ppo": {"minibatch_size": 1024, "target_kl": 0.01, "learning_rate": 1e-3},
    "critic": {"minibatch_size": 1024, "epochs": 2},
}


@dataclass(frozen=True)
class Method:
    """One row of the study's tables.

    Attributes:
        name: of the row.
        kind: ``trained`` by this project, ``exact`` on the decision process, ``search`` on the twin, or an
            ``outside`` implementation.
        schedule: which stages run (trained methods).
        trust_region_iterations: length of ``warm_start``'s first phase.
        options: what differs from ``BASE`` and the task's defaults, by group.
        step: the option that a sweep varies, as group and name.
        depth: of a lookahead planner.
    """

    name: str
    kind: Kind = "trained"
    schedule: StageSchedule = "alternate"
    trust_region_iterations: int = 5
    options: Options = field(default_factory=dict)
    step: tuple[str, str] | None = None
    depth: int = 0


RADIUS: Final = ("trust_region", "max_kl")
RATE: Final = ("ppo", "learning_rate")


def _two_stage(name: str, **options: Any) -> Method:
    return Method(name, options=options, step=RADIUS)


def _ppo(name: str, step: tuple[str, str], **options: Any) -> Method:
    return Method(name, schedule="ppo_only", options=options, step=step)


def _warm_start(k: int) -> Method:
    return Method(
        f"warm_start_{k}",
        schedule="warm_start",
        trust_region_iterations=k,
        options={"rollout": HELP, "ppo": _PENALISED},
        step=RADIUS,
    )


_TRAINED: Final = (
    _two_stage("alternate", rollout=HELP),
    Method("trust_region_only", schedule="trust_region_only", options={"rollout": HELP}, step=RADIUS),
    *(_warm_start(k) for k in (1, 5, 20, 80)),
    _ppo("ppo_only", RATE, ppo=_PENALISED),
    _ppo("ppo_only_clipped", RATE, ppo=CLIPPED | {"learning_rate": 3e-3}),
    _ppo("ppo_only_entropy", RATE, ppo=_PENALISED, rollout=ENTROPY),
    _ppo("ppo_only_restarts", RATE, ppo=_PENALISED, rollout=RESTARTS),
    _ppo("ppo_only_helped", RATE, ppo=_PENALISED, rollout=HELP),
    _ppo(
        "ppo_only_helped_annealed", RATE, ppo=_PENALISED | {"learning_rate_annealing": "linear"}, rollout=HELP
    ),
    _ppo("ppo_only_clipped_helped", RATE, ppo=CLIPPED | {"learning_rate": 3e-3}, rollout=HELP),
    _two_stage("alternate_unhelped"),
    _two_stage("alternate_entropy", rollout=ENTROPY),
    _two_stage("alternate_restarts", rollout=RESTARTS),
    _two_stage("alternate_progress", rollout=HELP, task={"reward": "progress"}),
    _ppo("ppo_only_progress", RATE, ppo=_PENALISED, task={"reward": "progress"}),
)
_REFERENCES: Final = (
    Method("no_op", "exact"),
    Method("random", "exact"),
    Method("greedy", "exact"),
    *(Method(f"lookahead_{depth}", "exact", depth=depth) for depth in (1, 2, 3)),
    Method("optimum", "exact"),
    Method("replay", "search"),
    Method("cem", "search"),
    Method("mpc", "search"),
)
_OUTSIDE: Final = tuple(Method(name, "outside") for name in ("sb3_ppo", "sb3_trpo", "sb3_trpo_then_ppo"))

METHODS: Final[Mapping[str, Method]] = MappingProxyType(
    {method.name: method for method in (*_TRAINED, *_REFERENCES, *_OUTSIDE)}
)
DEFAULT: Final = "alternate"
TUNED_PPO: Final = ("ppo_only", "ppo_only_clipped")
HELPED_PPO: Final = ("ppo_only_helped", "ppo_only_clipped_helped")

# Two decades of step length for all: a KL goes with its square.
KL_STEPS: Final = (0.001, 0.01, 0.1, 1.0, 10.0)
RATE_STEPS: Final = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
SWEEPS: Final[Mapping[str, tuple[float, ...]]] = MappingProxyType(
    {
        "alternate": KL_STEPS,
        "trust_region_only": KL_STEPS,
        "ppo_only": RATE_STEPS,
        "ppo_only_clipped": RATE_STEPS,
        "ppo_only_helped": RATE_STEPS,
        "ppo_only_clipped_helped": RATE_STEPS,
    }
)
SWEEP_TASKS: Final = ("D10", "L4", "L4t")
SWEEP_SEEDS: Final = 3
FIRST_SEED: Final = 100
