"""Whether a twin of one's own keeps the contract of ``DigitalTwin``, in sentences for its author."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Final

import torch
from torch import Generator, Tensor

from perturbrl.errors import ConfigurationError
from perturbrl.twins.base import DigitalTwin
from perturbrl.twins.perturbations import PerturbationSpace

N_CELLS: Final = 8
N_STEPS: Final = 3
_TOLERANCE: Final = 1e-4


@torch.no_grad()
def check_twin(twin: DigitalTwin, seed: int = 0) -> None:
    """Try a twin out and say everything that breaks the contract. A fitted twin with start cells is needed.

    Looked at: attributes; shapes, dtypes, devices and finite values; that arguments are left alone; that all
    randomness comes from the generator and the noise; that no cell depends on another; that doses do
    something; that tensors are buffers (others are neither saved nor moved) and survive a state dict.

    Args:
        twin: the twin; it is left as it was.
        seed: of the states, doses and noise it is tried with.

    Raises:
        ConfigurationError: something breaks the contract; the message has one clause for each problem.
    """
    problems = list(_attributes(twin)) or list(_sampling(twin, seed))
    if not problems:
        problems = list(_transition(_Trial(twin, seed)))
    if problems:
        listed = "; ".join(f"({i}) {problem}" for i, problem in enumerate(problems, start=1))
        raise ConfigurationError(
            f"{type(twin).__name__} breaks the contract of a twin: {listed}; mend its code"
        )


def _attributes(twin: DigitalTwin) -> Iterator[str]:
    if not isinstance(getattr(twin, "perturbations", None), PerturbationSpace):
        yield "perturbations is not a PerturbationSpace: set it in the constructor or in fit"
    latent_dim = getattr(twin, "latent_dim", None)
    if not isinstance(latent_dim, int) or latent_dim < 1:
        yield f"latent_dim is {latent_dim!r}: set it to the number of dimensions of a cell state"
    if not isinstance(getattr(twin, "start_cells", None), Tensor):
        yield "there is no start_cells: call super().__init__() in the constructor"
    elif twin.start_cells.numel() == 0:
        yield "there are no start cells: call fit and start_from before check_twin"
    elif twin.start_cells.shape[1:] != (latent_dim,):
        yield f"start_cells has shape {tuple(twin.start_cells.shape)}: it must be [cells, {latent_dim}]"
    for name, module in twin.named_modules():
        for attribute in (key for key, value in vars(module).items() if isinstance(value, Tensor)):
            place = f"{name}.{attribute}".lstrip(".")
            yield f"{place} is a plain tensor, which is neither saved nor moved: use register_buffer"


def _sampling(twin: DigitalTwin, seed: int) -> Iterator[str]:
    draws = {"initial_state": twin.initial_state, "draw_noise": twin.draw_noise}
    for name, draw in draws.items():
        first, again, other = (draw(N_CELLS, _generator(twin, s)) for s in (seed, seed, seed + 1))
        if first.shape[:1] != (N_CELLS,):
            yield f"{name}({N_CELLS}) has shape {tuple(first.shape)}: its rows must be the {N_CELLS} cells"
        elif not torch.equal(first, again):
            yield f"{name} is not decided by its generator: take all randomness from it"
        elif name == "draw_noise" and first.numel() and torch.equal(first, other):
            yield f"{name} does not use its generator: pass it on to torch.randn or torch.rand"
        elif name == "initial_state":
            yield from _as_states(twin, first, name)


def _as_states(twin: DigitalTwin, state: Tensor, what: str, n_cells: int = N_CELLS) -> Iterator[str]:
    like = twin.start_cells
    if state.shape != (n_cells, twin.latent_dim):
        wanted = (n_cells, twin.latent_dim)
        yield f"{what} returns shape {tuple(state.shape)} for {n_cells} cells: it must be {wanted}"
    if (state.dtype, state.device) != (like.dtype, like.device):
        yield (
            f"{what} returns {state.dtype} on {state.device}: it must be {like.dtype} on {like.device}, "
            "like start_cells"
        )
    if not bool(state.isfinite().all()):
        yield f"{what} returns values that are not finite: keep states finite for every dose in the box"


def _generator(twin: DigitalTwin, seed: int) -> Generator:
    return Generator(device=twin.start_cells.device).manual_seed(seed)


class _Trial:
    """Cells, noise and doses to try a twin with."""

    def __init__(self, twin: DigitalTwin, seed: int) -> None:
        self.twin, space = twin, twin.perturbations
        self.state = twin.initial_state(N_CELLS, _generator(twin, seed)).clone()
        self.noise = twin.draw_noise(N_CELLS, _generator(twin, seed + 1)).clone()
        share = torch.rand(
            N_CELLS, space.n_perturbations, generator=_generator(twin, seed + 2), device=self.state.device
        )
        self.dose = space.low + share * (space.high - space.low)

    def doses(self) -> dict[str, Tensor]:
        """Doses that a twin must survive."""
        space = self.twin.perturbations
        corners = {
            "no dose": torch.zeros_like(space.low),
            "the highest doses": space.high,
            "the lowest doses": space.low,
        }
        named = {name: dose.expand(N_CELLS, -1).clone() for name, dose in corners.items()}
        return named | {"random doses": self.dose}

    def next(self, state: Tensor, dose: Tensor, noise: Tensor) -> Tensor:
        """One transition, with copies, so that a change in place reaches nobody."""
        return self.twin.transition(state.clone(), dose.clone(), noise.clone())


def _transition(trial: _Trial) -> Iterator[str]:
    broken: list[str] = []
    for name, dose in trial.doses().items():
        state = trial.next(trial.state, dose, trial.noise)
        broken += _as_states(trial.twin, state, f"transition under {name}")
    yield from broken
    if not broken:
        yield from _leaves_arguments_alone(trial)
        yield from _repeats_itself(trial)
        yield from _treats_cells_apart(trial)
        yield from _heeds_doses(trial)
        yield from _survives_a_checkpoint(trial)
        yield from _expresses(trial)


def _leaves_arguments_alone(trial: _Trial) -> Iterator[str]:
    given = {"state": trial.state, "dose": trial.dose, "noise": trial.noise}
    passed = {name: value.clone() for name, value in given.items()}
    trial.twin.transition(*passed.values())
    for name, value in given.items():
        if not torch.equal(value, passed[name]):
            yield f"transition changes its {name} in place: work on a copy"


def _repeats_itself(trial: _Trial) -> Iterator[str]:
    first = trial.next(trial.state, trial.dose, trial.noise)
    trial.next(trial.state.flip(0), trial.dose.flip(0), trial.noise.flip(0))
    again = trial.next(trial.state, trial.dose, trial.noise)
    if not torch.equal(first, again):
        yield (
            "transition gives another state for equal arguments: take all randomness from noise and keep "
            "nothing from call to call"
        )


def _treats_cells_apart(trial: _Trial) -> Iterator[str]:
    together, half = trial.next(trial.state, trial.dose, trial.noise), N_CELLS // 2
    alone = trial.next(trial.state[:half], trial.dose[:half], trial.noise[:half])
    if alone.shape != (half, trial.twin.latent_dim) or not torch.allclose(
        alone, together[:half], _TOLERANCE, _TOLERANCE
    ):
        yield "a cell's next state depends on the other cells: treat every row by itself"


def _heeds_doses(trial: _Trial) -> Iterator[str]:
    doses = trial.doses()
    idle = doses.pop("no dose")
    reached = {name: _path(trial, dose) for name, dose in {"idle": idle, **doses}.items()}
    untouched = reached.pop("idle")
    if all(torch.equal(state, untouched) for state in reached.values()):
        yield f"no dose changes any cell within {N_STEPS} steps: use dose in transition"


def _path(trial: _Trial, dose: Tensor) -> Tensor:
    state = trial.state
    for _ in range(N_STEPS):
        state = trial.next(state, dose, trial.noise)
    return state


def _survives_a_checkpoint(trial: _Trial) -> Iterator[str]:
    saved, copy = trial.twin.state_dict(), deepcopy(trial.twin)
    missing = [
        name
        for name, value in saved.items()
        if value.is_floating_point() and not bool(value.isfinite().all())
    ]
    if missing:
        yield f"the state dict is not finite in {', '.join(missing)}: save finite tensors only"
    for value in copy.state_dict().values():
        value.zero_()
    copy.load_state_dict(saved)
    if not torch.equal(
        copy.transition(trial.state.clone(), trial.dose.clone(), trial.noise.clone()),
        trial.next(trial.state, trial.dose, trial.noise),
    ):
        yield "a copy that loads the state dict moves cells otherwise: keep what transition needs in buffers"


def _expresses(trial: _Trial) -> Iterator[str]:
    expression = trial.twin.expression(trial.state.clone())
    genes = len(trial.twin.gene_names)
    if expression.shape[:1] != (N_CELLS,) or expression.ndim != 2 or (genes and expression.shape[1] != genes):
        yield (
            f"expression returns shape {tuple(expression.shape)}: it must be [cells, genes], with as "
            "many genes as gene_names where these are given"
        )
    elif not bool(expression.isfinite().all()):
        yield "expression returns values that are not finite: return log-normalised expression"
