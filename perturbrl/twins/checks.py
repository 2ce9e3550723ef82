"""Whether a twin of one's own keeps the contract of ``DigitalTwin``, in sentences for its author."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from inspect import signature
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
    randomness comes from the generator and the noise; that no cell depends on its row or on other rows; that
    uncertainty is a standard deviation; that doses do something, and so do the members of an ensemble; that tensors
    are buffers (others are neither saved nor moved) and survive a state dict.

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
    yield from _ensemble(twin)
    for name, module in twin.named_modules():
        for attribute in (key for key, value in vars(module).items() if isinstance(value, Tensor)):
            place = f"{name}.{attribute}".lstrip(".")
            yield f"{place} is a plain tensor, which is neither saved nor moved: use register_buffer"


def _ensemble(twin: DigitalTwin) -> Iterator[str]:
    size = twin.n_members
    if not isinstance(size, int) or size < 1:
        yield f"n_members is {size!r}: it must be a whole number of at least 1"
        return
    given = ["state", "dose", "noise"] + (["member"] if size > 1 else [])
    try:
        signature(twin.transition).bind(*given)
    except TypeError:
        yield f"n_members is {size}, so transition must take {', '.join(given)}: mend its arguments"


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
    """Cells, noise, members and doses to try a twin with."""

    def __init__(self, twin: DigitalTwin, seed: int) -> None:
        self.twin, space = twin, twin.perturbations
        self.state = twin.initial_state(N_CELLS, _generator(twin, seed)).clone()
        self.noise = twin.draw_noise(N_CELLS, _generator(twin, seed + 1)).clone()
        self.member = twin.draw_members(N_CELLS, _generator(twin, seed + 3))
        shape = (N_CELLS, space.n_perturbations)
        share = torch.rand(shape, generator=_generator(twin, seed + 2), device=self.state.device)
        self.dose = space.low + share * (space.high - space.low)
        if space.discrete:  # an action is then one perturbation, or none
            self.dose = self._of_actions((share[:, 0] * space.n_actions).long())

    def doses(self) -> dict[str, Tensor]:
        """Doses that a twin must survive."""
        space = self.twin.perturbations
        corners = {
            "no dose": torch.zeros_like(space.low),
            "the highest doses": space.high,
            "the lowest doses": space.low,
        }
        named = {name: dose.expand(N_CELLS, -1).clone() for name, dose in corners.items()}
        if space.discrete:
            first = torch.arange(N_CELLS, device=self.state.device) % space.n_perturbations + 1
            last = space.n_actions - first
            named |= {
                "the highest doses": self._of_actions(first),
                "the lowest doses": self._of_actions(last),
            }
        return named | {"random doses": self.dose}

    def _of_actions(self, action: Tensor) -> Tensor:
        """The doses that discrete actions give cells that have received nothing yet."""
        space = self.twin.perturbations
        unused = torch.zeros(N_CELLS, space.n_perturbations, dtype=torch.bool, device=action.device)
        return space.project(action, unused)[0]

    def next(self, state: Tensor, dose: Tensor, member: Tensor | None = None) -> Tensor:
        """One transition of all cells, with copies, so that a change in place reaches nobody."""
        given = (state, dose, self.noise, self.member if member is None else member)
        return self.twin.next_state(*(value.clone() for value in given))

    def of(self, rows: Tensor) -> Tensor:
        """One transition of some of the cells, in this order."""
        given = (self.state, self.dose, self.noise, self.member)
        return self.twin.next_state(*(value[rows] for value in given))

    def path(self, dose: Tensor, member: Tensor | None = None) -> Tensor:
        """The cells' state after a few transitions."""
        state = self.state
        for _ in range(N_STEPS):
            state = self.next(state, dose, member)
        return state


def _transition(trial: _Trial) -> Iterator[str]:
    broken: list[str] = []
    for name, dose in trial.doses().items():
        state = trial.next(trial.state, dose)
        broken += _as_states(trial.twin, state, f"transition under {name}")
    yield from broken
    if not broken:
        yield from _leaves_arguments_alone(trial)
        yield from _repeats_itself(trial)
        yield from _treats_cells_apart(trial)
        yield from _heeds_doses(trial)
        yield from _heeds_members(trial)
        yield from _survives_a_checkpoint(trial)
        yield from _expresses(trial)
        yield from _knows_how_sure_it_is(trial)


def _leaves_arguments_alone(trial: _Trial) -> Iterator[str]:
    given = {"state": trial.state, "dose": trial.dose, "noise": trial.noise, "member": trial.member}
    changed: list[str] = []
    for n in (N_CELLS, 1):  # a transpose, say, is a copy of several cells and a view of one
        passed = {name: value[:n].clone() for name, value in given.items()}
        trial.twin.next_state(*passed.values())
        changed += [name for name, value in given.items() if not torch.equal(value[:n], passed[name])]
    for name in dict.fromkeys(changed):
        yield f"transition changes its {name} in place: work on a copy"


def _repeats_itself(trial: _Trial) -> Iterator[str]:
    everyone = torch.arange(N_CELLS)
    first = trial.of(everyone)
    trial.of(everyone.flip(0))
    again = trial.of(everyone)
    if not torch.equal(first, again):
        yield (
            "transition gives another state for equal arguments: take all randomness from noise and keep "
            "nothing from call to call"
        )


def _treats_cells_apart(trial: _Trial) -> Iterator[str]:
    orders, parts = _reordered(trial.of), _parted(trial.of)
    if orders:
        yield (
            "a cell's next state depends on its row in the batch: decide nothing by row number (of an ensemble, "
            "each cell's member is given)"
        )
    elif parts:
        yield "a cell's next state depends on the other cells or on their number: treat every row by itself"


def _reordered(of: Callable[[Tensor], Tensor]) -> bool:
    """Whether rows change when they change places."""
    everyone = torch.arange(N_CELLS)
    shuffled = torch.randperm(N_CELLS, generator=Generator().manual_seed(0))
    together = of(everyone)
    return any(
        _differ(of(order), together[order]) for order in (everyone.flip(0), everyone.roll(1), shuffled)
    )


def _parted(of: Callable[[Tensor], Tensor]) -> bool:
    """Whether rows change when others are missing: unequal parts, and every row alone."""
    everyone = torch.arange(N_CELLS)
    together = of(everyone)
    parts = (*everyone.split([1, 2, N_CELLS - 3]), *everyone.split(1))
    return any(_differ(of(part), together[part]) for part in parts)


def _differ(a: Tensor, b: Tensor) -> bool:
    return a.shape != b.shape or not torch.allclose(a, b, _TOLERANCE, _TOLERANCE)


def _heeds_doses(trial: _Trial) -> Iterator[str]:
    doses = trial.doses()
    untouched = trial.path(doses.pop("no dose"))
    if all(torch.equal(trial.path(dose), untouched) for dose in doses.values()):
        yield f"no dose changes any cell within {N_STEPS} steps: use dose in transition"


def _heeds_members(trial: _Trial) -> Iterator[str]:
    size, doses = trial.twin.n_members, [*trial.doses().values()]
    if size == 1:
        return
    first, *others = (torch.full_like(trial.member, m) for m in range(size))
    pairs = ((trial.path(dose, first), trial.path(dose, other)) for other in others for dose in doses)
    if all(torch.equal(*pair) for pair in pairs):
        yield f"all {size} members move cells alike within {N_STEPS} steps: use member in transition"


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
    given = (trial.state, trial.dose, trial.noise, trial.member)
    moved = copy.next_state(*(value.clone() for value in given))
    if not torch.equal(moved, trial.next(trial.state, trial.dose)):
        yield "a copy that loads the state dict moves cells otherwise: keep what transition needs in buffers"


def _knows_how_sure_it_is(trial: _Trial) -> Iterator[str]:
    told = trial.twin.uncertainty(trial.path(trial.dose))
    if told is None:
        return
    if told.shape != (N_CELLS,):
        yield f"uncertainty returns shape {tuple(told.shape)} for {N_CELLS} cells: it must be [cells]"
    elif not bool((told.isfinite() & (told >= 0)).all()):
        yield "uncertainty returns values that are negative or not finite: return a standard deviation, as a length"


def _expresses(trial: _Trial) -> Iterator[str]:
    def of(rows: Tensor) -> Tensor:
        return trial.twin.expression(trial.state[rows])

    expression = of(torch.arange(N_CELLS))
    genes = len(trial.twin.gene_names)
    if expression.shape[:1] != (N_CELLS,) or expression.ndim != 2 or (genes and expression.shape[1] != genes):
        yield (
            f"expression returns shape {tuple(expression.shape)}: it must be [cells, genes], with as "
            "many genes as gene_names where these are given"
        )
    elif not bool(expression.isfinite().all()):
        yield "expression returns values that are not finite: return log-normalised expression"
    elif _reordered(of) or _parted(of):
        yield "the expression of a cell depends on its row or on the other cells: treat every row by itself"
