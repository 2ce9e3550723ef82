import pytest
import torch
from linear_twin import linear_twin, normal

from perturbrl.errors import ConfigurationError
from perturbrl.twins import check_twin
from perturbrl.twins.base import DigitalTwin
from perturbrl.twins.macro import MacroTwin
from perturbrl.twins.perturbations import PerturbationSpace


class Good(DigitalTwin):
    """Decays towards 0 and is pushed by doses."""

    def __init__(self):
        super().__init__()
        self.latent_dim = 3
        self.perturbations = PerturbationSpace(("A", "B"), -1.0, 1.0)
        self.register_buffer("push", normal(2, 3))
        self.start_from(normal(10, 3, seed=1))

    def transition(self, state, dose, noise):
        return 0.9 * state + dose @ self.push + 0.1 * noise


class WrongShape(Good):
    def transition(self, state, dose, noise):
        return super().transition(state, dose, noise)[:, :2]


class InPlace(Good):
    def transition(self, state, dose, noise):
        state += dose @ self.push
        return state * 0.9 + noise


class LoneCellInPlace(Good):
    def transition(self, state, dose, noise):
        x = state.T.contiguous()
        x *= 0.9
        return x.T + dose @ self.push


class HiddenRandomness(Good):
    def transition(self, state, dose, noise):
        return super().transition(state, dose, torch.randn_like(noise))


class RandomStart(Good):
    def initial_state(self, n_cells, generator=None):
        return torch.randn(n_cells, self.latent_dim)


class ConstantNoise(Good):
    def draw_noise(self, n_cells, generator=None):
        return torch.ones(n_cells, self.latent_dim)


class Memory(Good):
    calls = 0

    def transition(self, state, dose, noise):
        self.calls += 1
        return super().transition(state, dose, noise) + self.calls


class WrongType(Good):
    def transition(self, state, dose, noise):
        return super().transition(state, dose, noise).double()


class NotANumber(Good):
    def transition(self, state, dose, noise):
        return super().transition(state, dose, noise) + dose.sum(-1, keepdim=True).log()


class DoseIgnored(Good):
    def transition(self, state, dose, noise):
        return 0.9 * state + noise


class CellsTogether(Good):
    def transition(self, state, dose, noise):
        following = super().transition(state, dose, noise)
        return following - following.mean(0)


class RowNumber(Good):
    def transition(self, state, dose, noise):
        return super().transition(state, dose, noise) + torch.arange(len(state))[:, None] % 3


class BatchSize(Good):
    def transition(self, state, dose, noise):
        return super().transition(state, dose, noise) * len(state) / 8


class ChosenByTheFirstRow(Good):
    def transition(self, state, dose, noise):
        return super().transition(state, dose, noise) + 0.1 * state[:1]


class Ensemble(Good):
    n_members = 3

    def transition(self, state, dose, noise, member):
        return super().transition(state, dose, noise) + 0.1 * member[:, None]


class NoMember(Ensemble):
    def transition(self, state, dose, noise):
        return Good.transition(self, state, dose, noise)


class MemberIgnored(Ensemble):
    def transition(self, state, dose, noise, member):
        return Good.transition(self, state, dose, noise)


class MemberByRow(Ensemble):
    def transition(self, state, dose, noise, member):
        return super().transition(state, dose, noise, torch.arange(len(state)) % 3)


class MemberInPlace(Ensemble):
    def transition(self, state, dose, noise, member):
        member += 1
        return super().transition(state, dose, noise, member - 1)


class NoEnsemble(Good):
    n_members = 0


class ExpressionTogether(Good):
    def expression(self, state):
        return state / state.norm()


class ExpressionByRow(Good):
    def expression(self, state):
        return state + torch.arange(len(state))[:, None]


class PlainTensor(Good):
    def __init__(self):
        super().__init__()
        self.offset = torch.ones(3)


class NotInTheStateDict(Good):
    def __init__(self):
        super().__init__()
        self.register_buffer("table", torch.ones(3))

    def load_state_dict(self, state_dict, *args, **kwargs):
        return super().load_state_dict({**state_dict, "table": torch.zeros(3)}, *args, **kwargs)

    def transition(self, state, dose, noise):
        return super().transition(state, dose, noise) + self.table


class InfiniteBuffer(Good):
    def __init__(self):
        super().__init__()
        self.register_buffer("limit", torch.tensor(float("inf")))


class NoStart(Good):
    def start_from(self, cells):
        pass


class NoSpace(Good):
    def __init__(self):
        super().__init__()
        self.perturbations = None


class NoWidth(Good):
    def __init__(self):
        super().__init__()
        self.latent_dim = 0


class WrongGenes(Good):
    gene_names = ("A", "B")


class ShortNoise(Good):
    def draw_noise(self, n_cells, generator=None):
        return torch.randn(self.latent_dim, generator=generator)


class OneUncertainty(Good):
    def uncertainty(self, state):
        return state.norm()


class NegativeUncertainty(Good):
    def uncertainty(self, state):
        return -state.norm(dim=1)


BROKEN = {
    OneUncertainty: r"uncertainty returns shape \(\) for 8 cells",
    NegativeUncertainty: "uncertainty returns values that are negative",
    WrongShape: r"transition under no dose returns shape \(8, 2\) for 8 cells: it must be \(8, 3\)",
    InPlace: "transition changes its state in place",
    LoneCellInPlace: "transition changes its state in place",
    HiddenRandomness: "transition gives another state for equal arguments",
    RandomStart: "initial_state is not decided by its generator",
    ConstantNoise: "draw_noise does not use its generator",
    Memory: "keep nothing from call to call",
    WrongType: r"returns torch.float64 on cpu: it must be torch.float32 on cpu",
    NotANumber: "transition under no dose returns values that are not finite",
    DoseIgnored: "no dose changes any cell",
    CellsTogether: "a cell's next state depends on the other cells",
    BatchSize: "depends on the other cells or on their number",
    RowNumber: "a cell's next state depends on its row in the batch",
    ChosenByTheFirstRow: "a cell's next state depends on its row in the batch",
    NoMember: "n_members is 3, so transition must take state, dose, noise, member",
    MemberIgnored: "all 3 members move cells alike",
    MemberByRow: "of an ensemble, each cell's member is given",
    MemberInPlace: "transition changes its member in place",
    NoEnsemble: "n_members is 0",
    ExpressionTogether: "the expression of a cell depends on its row or on the other cells",
    ExpressionByRow: "the expression of a cell depends on its row or on the other cells",
    PlainTensor: "offset is a plain tensor",
    NotInTheStateDict: "a copy that loads the state dict moves cells otherwise",
    InfiniteBuffer: "the state dict is not finite in limit",
    NoStart: "there are no start cells",
    NoSpace: "perturbations is not a PerturbationSpace",
    NoWidth: "latent_dim is 0",
    WrongGenes: r"expression returns shape \(8, 3\)",
    ShortNoise: r"draw_noise\(8\) has shape \(3,\)",
}


def test_a_good_twin_passes_and_is_left_as_it_was():
    twin = Good()
    before = {name: value.clone() for name, value in twin.state_dict().items()}
    check_twin(twin)
    assert all(torch.equal(value, before[name]) for name, value in twin.state_dict().items())


@pytest.mark.parametrize("twin_class", BROKEN, ids=lambda c: c.__name__)
def test_a_broken_twin_is_told_what_is_wrong(twin_class):
    with pytest.raises(ConfigurationError, match=BROKEN[twin_class]) as caught:
        check_twin(twin_class())
    assert str(caught.value).startswith(f"{twin_class.__name__} breaks the contract")


def test_a_good_ensemble_passes():
    check_twin(Ensemble())


def test_only_what_is_broken_is_named():
    with pytest.raises(ConfigurationError) as caught:
        check_twin(InPlace())
    assert "(1)" in str(caught.value)
    assert "(2)" not in str(caught.value)


def test_several_problems_are_named_together():
    class Several(DoseIgnored, WrongGenes):
        pass

    with pytest.raises(ConfigurationError, match=r"\(1\) no dose.*\(2\) expression"):
        check_twin(Several())


def test_a_twin_that_draws_no_noise_passes():
    check_twin(linear_twin(normal(3, 2)))


def test_a_twin_that_is_dosed_by_choices_gets_one_perturbation_at_a_time():
    check_twin(MacroTwin("krumsiek11", ("Gata1", "Fli1")))
