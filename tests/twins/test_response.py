"""Cells go where kriging expects them under all that they received."""

from dataclasses import replace
from itertools import permutations

import anndata
import numpy as np
import pytest
import torch
from places import measured_file
from response_screen import kriging, response_twin, screen
from scipy.sparse import csr_matrix

from perturbrl.data.labels import Label
from perturbrl.data.prior_knowledge import PriorKnowledge
from perturbrl.embeddings.base import EncodedCells
from perturbrl.embeddings.pca import PCAEncoder
from perturbrl.errors import ConfigurationError
from perturbrl.responses.kriging import Kriging
from perturbrl.responses.training_cells import TrainingCells
from perturbrl.twins import check_twin, foretold_parts
from perturbrl.twins.combined_shifts import NUMBERS_OF_PARTS
from perturbrl.twins.response import ResponseTwin

N = 4
MEASURED = "GENE0000+GENE0003"
UNMEASURED = ("GENE0000+GENE0004", "GENE0000+GENE0001+GENE0003", "GENE0000+GENE0001+GENE0002+GENE0003")


def given(twin: ResponseTwin, *steps: str, dose: float = 1.0, member: int | None = None) -> torch.Tensor:
    """Where cells are after one step for each name (or combination), from the first start cells."""
    state = twin.start_cells[:N]
    for step in steps:
        state = twin.next_state(
            state, doses(twin, step, dose), twin.draw_noise(N), torch.full((N,), member or 0)
        )
    return twin.place(state)


def doses(twin: ResponseTwin, label: str, dose: float = 1.0) -> torch.Tensor:
    found = torch.zeros(N, twin.perturbations.n_perturbations)
    found[:, [twin.perturbations.names.index(name) for name in Label.parse(label).names]] = dose
    return found


def start(twin: ResponseTwin) -> torch.Tensor:
    return twin.place(twin.start_cells[:N])


def expected(label: str) -> torch.Tensor:
    shift = torch.as_tensor(kriging().predict([(Label.parse(label), "")]).mean).float()
    return shift @ screen()[1].components.T


@pytest.mark.parametrize("label", ["GENE0002", MEASURED, *UNMEASURED])
@pytest.mark.parametrize("at_once", [True, False])
def test_full_doses_do_what_kriging_says_in_one_step_or_several(label: str, at_once: bool) -> None:
    twin = response_twin()
    moved = given(twin, *([label] if at_once else Label.parse(label).names)) - start(twin)
    assert torch.allclose(moved, expected(label).expand(N, -1), atol=1e-4)


def test_combinations_are_not_the_sum_of_their_parts() -> None:
    twin = response_twin()
    alone = [given(twin, name) - start(twin) for name in Label.parse(MEASURED).names]
    assert not torch.allclose(given(twin, MEASURED) - start(twin), sum(alone), atol=0.05)
    assert twin.linear_effects() is None


@pytest.mark.parametrize("n_members", [1, 3])
def test_the_same_twice_changes_nothing_and_order_does_not_matter(n_members: int) -> None:
    twin = response_twin(n_members=n_members)
    once = given(twin, "GENE0001", member=n_members - 1)
    assert torch.equal(given(twin, "GENE0001", "GENE0001", member=n_members - 1), once)
    names = ("GENE0001", "GENE0003", "GENE0004")
    ends = [given(twin, *order, member=n_members - 1) for order in permutations(names)]
    assert all(torch.allclose(end, ends[0], atol=1e-5) for end in ends)
    assert not torch.allclose(ends[0], once, atol=0.05)


def test_the_highest_dose_counts() -> None:
    twin = response_twin()
    state = twin.start_cells[:N]
    for dose in (0.3, 0.8, 0.5):
        state = twin.next_state(
            state, doses(twin, "GENE0002", dose), twin.draw_noise(N), torch.zeros(N).long()
        )
    assert torch.allclose(twin.place(state), given(twin, "GENE0002", dose=0.8), atol=1e-6)
    assert torch.allclose(twin.received(state), doses(twin, "GENE0002", 0.8))
    one_way = given(twin, "GENE0002") - start(twin)
    assert torch.allclose(given(twin, "GENE0002", dose=0.5) - start(twin), one_way / 2, atol=1e-5)


def test_a_little_of_another_perturbation_does_little() -> None:
    twin = response_twin()
    alone = given(twin, "GENE0000")
    state = twin.next_state(
        twin.start_cells[:N],
        doses(twin, "GENE0000") + doses(twin, "GENE0003", 0.01),
        twin.draw_noise(N),
        torch.zeros(N).long(),
    )
    assert (twin.place(state) - alone).norm(dim=1).max() < 0.1


@pytest.mark.parametrize("remembered", [0, 1, 2])
def test_a_state_remembers_no_more_than_it_must(remembered: int) -> None:
    twin, whole = response_twin(remembered=remembered), response_twin()
    assert twin.latent_dim == 5 + 2 * remembered
    assert twin.remembers == (remembered > 0)
    assert torch.allclose(given(twin, MEASURED), given(whole, MEASURED), atol=1e-6)
    if remembered == 2:
        names = Label.parse(MEASURED).names
        assert torch.allclose(given(twin, *names), given(whole, *names), atol=1e-6)
    check_twin(twin)


def test_a_twin_fitted_again_remembers_as_much() -> None:
    twin = response_twin(remembered=1)
    assert twin.fit(*screen()).latent_dim == twin.start_cells.shape[1] == 7


def test_of_thousands_some_tell_what_others_do_to_a_share(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = response_twin().shifts.shares
    monkeypatch.setattr(foretold_parts, "_TELLING", 3)
    told = ResponseTwin().fit(*screen()).shifts.shares
    numbers = [shares.view(len(exact), len(NUMBERS_OF_PARTS), -1) for shares in (exact, told)]
    torch.testing.assert_close(numbers[1][:, 0], numbers[0][:, 0])
    assert float((numbers[1] - numbers[0]).norm() / numbers[0].norm()) < 0.1
    assert not torch.equal(*numbers)


def test_members_are_draws_around_what_is_expected() -> None:
    twin, mean = response_twin(n_members=32), response_twin()
    encoder = screen()[1]
    for label in ("GENE0001", MEASURED):
        draws = torch.stack([given(twin, label, member=m)[0] for m in range(32)])
        assert torch.allclose(draws.mean(0), given(mean, label)[0], atol=1e-4)
        told = kriging().deviations([(Label.parse(label), "")], 4000, np.random.default_rng(1))[:, 0]
        sd = (torch.as_tensor(told).float() @ encoder.components.T).std(0)
        assert torch.allclose(draws.std(0), sd, rtol=0.4, atol=1e-3)


def test_it_is_less_sure_of_pairs_that_nobody_measured() -> None:
    twin = response_twin(n_members=32)

    def uncertainty(label: str) -> float:
        state = twin.next_state(
            twin.start_cells[:N], doses(twin, label), twin.draw_noise(N), torch.zeros(N).long()
        )
        found = twin.uncertainty(state)
        assert found is not None
        return float(found[0])

    assert uncertainty("GENE0000") < uncertainty("GENE0000+GENE0004")
    assert uncertainty(MEASURED) < uncertainty("GENE0000+GENE0004")
    assert float(twin.uncertainty(twin.start_cells[:1])) == 0.0
    assert response_twin().uncertainty(twin.start_cells[:1]) is None


def alike() -> PriorKnowledge:
    names = ("GENE0000", "GENE0001", "Unmeasured", "Stranger")
    return PriorKnowledge("alike", names, csr_matrix(np.array([[1.0, 0], [0, 1], [1, 0], [0, 0]])))


def test_what_is_like_a_measured_perturbation_may_be_dosed() -> None:
    cells, encoder = screen()
    told = replace(cells, priors=(alike(),))
    twin = ResponseTwin().fit(told, encoder)
    assert twin.perturbations.names[-1] == "Unmeasured"
    assert twin.evidence == ("measured",) * 5 + ("prior",)
    assert ResponseTwin(max_unmeasured=0).fit(told, encoder).evidence == ("measured",) * 5
    allowed = ResponseTwin().fit(replace(told, allowed=("Unmeasured", "Stranger")), encoder)
    assert allowed.perturbations.names == twin.perturbations.names  # of a stranger nothing is known


def test_cell_types_respond_in_their_own_way() -> None:
    cells, encoder = screen()
    expression, labels = cells.expression, list(cells.labels)
    far = expression + torch.tensor([4.0] * 10 + [0.0] * 30)  # another type, in which GENE0001 does more
    far = torch.where(torch.tensor([one == "GENE0001" for one in labels])[:, None], far * 1.2, far)
    both = torch.cat((expression, far))
    encoder = PCAEncoder(6).fit(both)
    types = ("near",) * len(labels) + ("far",) * len(labels)
    twin = ResponseTwin().fit(
        EncodedCells(encoder.encode(both), both, (*labels, *labels), cells.genes, types), encoder
    )
    rows = cells.rows_of("control")
    starts = torch.cat((encoder.encode(expression[rows][:2]), encoder.encode(far[rows][:2])))
    twin.start_from(starts)
    model = Kriging().fit(TrainingCells(both, (*labels, *labels), cells.genes, types))
    for label in ("GENE0001", "GENE0001+GENE0002"):
        state = twin.start_cells
        for name in Label.parse(label).names:
            state = twin.next_state(state, doses(twin, name), twin.draw_noise(N), torch.zeros(N).long())
        moved = twin.place(state) - starts
        for rows_of_type, context in (([0, 1], "near"), ([2, 3], "far")):
            shift = torch.as_tensor(model.predict([(Label.parse(label), context)]).mean).float()
            assert torch.allclose(
                moved[rows_of_type], (shift @ encoder.components.T).expand(2, -1), atol=1e-3
            )
    check_twin(twin)


def test_a_checkpoint_brings_everything_back() -> None:
    twin = response_twin(n_members=3, remembered=2)
    other = ResponseTwin(n_members=3)
    other.restore(twin.describe())
    other.load_state_dict(twin.state_dict())
    assert (other.evidence, other.remembers, other.latent_dim) == (twin.evidence, True, twin.latent_dim)
    for member in (0, 1):
        assert torch.equal(
            given(other, "GENE0000", "GENE0001", member=member),
            given(twin, "GENE0000", "GENE0001", member=member),
        )


@pytest.mark.parametrize("option", [{"n_members": 0}, {"max_unmeasured": -1}])
def test_options_out_of_range_are_refused(option: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError, match=f"the twin's {next(iter(option))} is"):
        ResponseTwin(**option)


def real(file: str, n_dimensions: int) -> tuple[EncodedCells, PCAEncoder]:
    adata = anndata.read_h5ad(measured_file(file))
    counts = torch.as_tensor(adata.X.toarray())
    expression = torch.log1p(
        1e4 * counts / torch.as_tensor(adata.obs["n_umis_full"].to_numpy(np.float32))[:, None]
    )
    types = tuple(adata.obs["cell_type"].astype(str)) if "cell_type" in adata.obs else None
    types = types if types and len(set(types)) > 1 else None
    encoder = PCAEncoder(n_dimensions).fit(expression)
    labels = tuple(adata.obs["perturbation"].astype(str))
    return EncodedCells(
        encoder.encode(expression), expression, labels, tuple(adata.var_names), types
    ), encoder


@pytest.mark.realdata
@pytest.mark.parametrize("file", ["norman2019_k562_crispra.h5ad", "kang2018_pbmc_ifnb.h5ad"])
def test_on_measured_cells_a_design_in_steps_does_what_kriging_says(file: str) -> None:
    cells, encoder = real(file, 10)
    twin = ResponseTwin().fit(cells, encoder)
    twin.start_from(cells.latent[cells.rows_of("control")][:N])
    model = Kriging().fit(TrainingCells(cells.expression, cells.labels, cells.genes, cells.contexts))
    labels = [
        label for label, _ in model.moments.conditions if set(label.names) <= set(twin.perturbations.names)
    ]
    doubles = [label for label in labels if label.is_combination]
    assert bool(doubles) == file.startswith("norman")
    for label in [*doubles[:3], labels[0]]:
        state = twin.start_cells
        for name in (*label.names, *label.names[::-1]):  # forth and back: neither order nor repeats matter
            state = twin.next_state(state, doses(twin, name), twin.draw_noise(N), torch.zeros(N).long())
        moved = (twin.place(state) - twin.place(twin.start_cells))[0]
        context = twin.contexts[int(twin.start_cells[0, 10])] if cells.contexts else ""
        shift = torch.as_tensor(model.predict([(label, context)]).mean[0]).float()
        assert torch.allclose(moved, shift @ encoder.components.T, atol=2e-3)
