"""A screen whose truth is known, against its own cells."""

from dataclasses import replace

import numpy as np
import pytest

from perturbrl.data.dataset import PerturbationDataset
from perturbrl.data.gene_sets import read_gene_sets
from perturbrl.data.labels import Label
from perturbrl.data.module_screen import ModuleScreenOptions, simulate_module_screen, write_gene_sets
from perturbrl.data.preprocessing import Preprocessor
from perturbrl.data.presets import detect_fields
from perturbrl.errors import ConfigurationError

SMALL = ModuleScreenOptions(
    n_perturbations=40, n_genes=60, n_modules=5, n_control=3000, cells_per_population=400, effect_size=0.3
)


def measured_shifts(screen):
    """Shift of each condition as a user's own file would tell it."""
    dataset = PerturbationDataset.from_adata(screen.adata, detect_fields(screen.adata))
    rows = np.arange(dataset.n_cells)
    preprocessor = Preprocessor(n_top_genes=None).fit(dataset, rows)
    assert list(preprocessor.genes) == list(screen.adata.var_names)
    expression = preprocessor.transform(dataset, rows).double().numpy()
    contexts = dataset.cell_types if dataset.fields.cell_type_key else np.full(len(rows), "")
    for label, context in screen.conditions:
        here = contexts == context
        control = expression[here & (dataset.labels == "control")]
        treated = expression[here & (dataset.labels == label)]
        noise = (control.var(axis=0) / len(control) + control.var(axis=0) / len(treated)) ** 0.5
        yield treated.mean(axis=0) - control.mean(axis=0), noise


@pytest.mark.parametrize(
    "options",
    [
        SMALL,
        replace(SMALL, n_combinations=10, interaction=1.0),
        replace(SMALL, n_perturbations=10, contexts=("k", "m"), dispersion=0.5),
        replace(SMALL, n_perturbations=10, doses=(1.0, 100.0), n_combinations=4),
    ],
    ids=["singles", "pairs", "contexts", "doses"],
)
def test_cells_scatter_around_the_truth(options):
    screen = simulate_module_screen(options)
    off = np.array([
        (seen - truth) / noise
        for (seen, noise), truth in zip(measured_shifts(screen), screen.shifts, strict=True)
    ])  # fmt: skip
    assert abs(off.mean()) < 0.15
    assert 0.9 < off.std() < 1.15
    # Noise alone does not hide a wrong truth.
    assert np.median(np.linalg.norm(screen.shifts, axis=1)) > 1.0


def test_a_module_does_much_the_same():
    screen = simulate_module_screen(SMALL)
    module = {name: key for key, members in screen.modules.items() for name in members}
    alike = np.corrcoef(screen.shifts)
    names = [label.names[0] for label, _ in screen.conditions]
    same = np.array([[module[a] == module[b] for b in names] for a in names])
    np.fill_diagonal(alike, np.nan)
    assert np.nanmean(alike[same]) > 0.5 > 0.1 > abs(np.nanmean(alike[~same]))


def test_pairs_of_a_module_do_less_than_both_and_others_add_up():
    screen = simulate_module_screen(replace(SMALL, n_combinations=30, interaction=0.0, effect_size=0.05))
    truth = {label: shift for (label, _), shift in zip(screen.conditions, screen.shifts, strict=True)}
    module = {name: key for key, members in screen.modules.items() for name in members}
    pairs = [label for label in truth if label.is_combination]
    assert len(pairs) == 30
    kinds = set()
    for label in pairs:
        a, b = label.singles
        share = 0.5 if module[a] == module[b] else 1.0
        kinds.add(share)
        expected = share * (truth[a] + truth[b])
        # Small effects add up in log expression as they do in programs.
        assert np.linalg.norm(truth[label] - expected) < 0.25 * np.linalg.norm(expected)
    assert kinds == {0.5, 1.0}


def test_more_of_a_dose_does_more():
    screen = simulate_module_screen(replace(SMALL, n_perturbations=5, doses=(1.0, 10.0, 100.0)))
    truth = {
        str(label): np.linalg.norm(s) for (label, _), s in zip(screen.conditions, screen.shifts, strict=True)
    }
    for name in {label.names[0] for label, _ in screen.conditions}:
        assert truth[f"{name}:1"] < truth[f"{name}:10"] < truth[f"{name}:100"]
    dataset = PerturbationDataset.from_adata(screen.adata, detect_fields(screen.adata))
    assert set(dataset.measured) == {Label.parse(text) for text in (*truth, "control")}


def test_contexts_differ_in_base_and_response():
    screen = simulate_module_screen(replace(SMALL, contexts=("k", "m")))
    assert np.linalg.norm(screen.controls["k"] - screen.controls["m"]) > 1
    half = len(screen.shifts) // 2
    alike = [np.corrcoef(a, b)[0, 1] for a, b in zip(screen.shifts[:half], screen.shifts[half:], strict=True)]
    assert 0.4 < np.median(alike) < 0.97


def test_modules_written_with_noise_are_read_as_prior_knowledge(tmp_path):
    screen = simulate_module_screen(SMALL)
    noisy = screen.noisy_modules(0.25)
    for module, members in screen.modules.items():
        assert len(noisy[module]) == len(members)
        assert len(set(members) - set(noisy[module])) == round(0.25 * len(members)) == 2
    write_gene_sets(tmp_path / "modules.gmt", noisy)
    prior = read_gene_sets(tmp_path / "modules.gmt")
    assert set(prior.names) == {name for members in noisy.values() for name in members}
    a, b = next(iter(noisy.values()))[:2]
    assert prior.similarity([a], [b]) > 0.3


def test_equal_seeds_give_equal_screens():
    one, same, other = (simulate_module_screen(replace(SMALL, seed=seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.shifts, same.shifts)
    assert (one.adata.X != same.adata.X).nnz == 0
    assert not np.allclose(one.shifts, other.shifts)


def test_impossible_screens_are_errors():
    with pytest.raises(ConfigurationError, match="at least one perturbation"):
        ModuleScreenOptions(n_perturbations=0)
    with pytest.raises(ConfigurationError, match="n_combinations is 9"):
        ModuleScreenOptions(n_perturbations=8, n_combinations=9)
