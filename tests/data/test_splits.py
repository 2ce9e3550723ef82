from dataclasses import replace
from pathlib import Path

import jsonargparse
import numpy as np
import pytest
from atlas import TYPES, atlas
from hypothesis import given
from hypothesis import strategies as st

from perturbrl.data.dataset import PerturbationDataset
from perturbrl.data.labels import Label
from perturbrl.data.presets import detect_fields
from perturbrl.data.split import PARTS, Split
from perturbrl.data.splits import (
    HeldOutCells,
    HeldOutCellTypes,
    HeldOutCombinations,
    HeldOutPerturbations,
    SplitStrategy,
)
from perturbrl.data.synthetic import simulate_screen
from perturbrl.errors import ConfigurationError, DataError, LeakageError


def screen(
    n_perturbations: int = 6, n_combinations: int = 6, cells: int = 10, seed: int = 0
) -> PerturbationDataset:
    adata = simulate_screen(n_perturbations, 12, 30, cells, n_combinations, seed=seed)
    adata.obs["cell_type"] = np.where(np.arange(adata.n_obs) % 3 == 0, "T", "B")
    return PerturbationDataset.from_adata(adata, detect_fields(adata))


DATASET = screen()
STRATEGIES = [
    HeldOutCells(0.3, validation_fraction=0.2),
    HeldOutPerturbations(0.3, validation_fraction=0.1),
    HeldOutPerturbations(perturbations=["GENE0001"]),
    HeldOutCombinations(2, fraction=0.5),
    HeldOutCombinations(1, fraction=0.3, validation_fraction=0.1),
    HeldOutCombinations(0, fraction=0.3),
    HeldOutCellTypes(["T"]),
]


def named(split: Split, part: str) -> set[str]:
    return {split.barcodes[row] for row in getattr(split, part)}


def labels_in(dataset: PerturbationDataset, rows: np.ndarray) -> set[str]:
    return set(dataset.labels[rows])


@pytest.mark.parametrize("strategy", STRATEGIES, ids=repr)
@pytest.mark.parametrize("hold_out", [(), ("GENE0000+GENE0004",), ("GENE0002", "GENE0000")])
def test_every_split_keeps_its_promises(strategy: SplitStrategy, hold_out: tuple[str, ...]) -> None:
    hold_out = (
        tuple(label for label in hold_out if label in DATASET.perturbations) or DATASET.combinations[:1]
    )
    split = strategy.split(DATASET, hold_out, goal_fraction=0.4)
    parts = np.concatenate([getattr(split, part) for part in PARTS])
    assert len(parts) == len(set(parts)) <= DATASET.n_cells
    assert all((np.diff(getattr(split, part)) > 0).all() for part in PARTS)
    assert labels_in(DATASET, split.goal) == set(hold_out)
    for label in hold_out:
        cells = set(DATASET.population_rows(label))
        assert len(cells & set(split.goal)) == 4
        assert cells <= set(split.goal) | set(split.test)
    assert not labels_in(DATASET, split.train) & (set(hold_out) | set(split.held_out_perturbations))
    assert labels_in(DATASET, split.train) | set(split.held_out_perturbations) == set(DATASET.labels)
    assert "control" in labels_in(DATASET, split.train) & labels_in(DATASET, split.test)


@pytest.mark.parametrize("strategy", STRATEGIES, ids=repr)
def test_a_share_of_the_training_cells_of_the_source_are_reference_cells(strategy: SplitStrategy) -> None:
    target = DATASET.combinations[0]
    plain = strategy.split(DATASET, (target,))
    split = strategy.split(DATASET, (target,), source="control", reference_fraction=0.25)
    control = set(DATASET.population_rows("control"))
    assert len(plain.reference) == 0
    assert set(split.reference) <= control & set(split.train)
    # The cells that judge stay, and a quarter of the others are reference cells.
    np.testing.assert_array_equal(split.test, plain.test)
    np.testing.assert_array_equal(split.goal, plain.goal)
    assert len(split.reference) == round(0.25 * len(control - set(split.test)))


@pytest.mark.parametrize(("cells", "reference", "train"), [(10, 2, 8), (3, 1, 2), (2, 0, 1), (1, 0, 1)])
def test_a_few_source_cells_are_shared_out_as_far_as_they_go(cells: int, reference: int, train: int) -> None:
    adata = simulate_screen(3, 12, cells, 10, 0)
    dataset = PerturbationDataset.from_adata(adata, detect_fields(adata))
    split = HeldOutCells().split(dataset, ("GENE0000",), source="control")
    control = dataset.population_rows("control")
    assert len(split.reference) == reference
    assert len(np.intersect1d(control, split.train)) == train


@pytest.mark.parametrize("strategy", STRATEGIES, ids=repr)
def test_the_seed_and_the_cells_decide_and_not_their_order(strategy: SplitStrategy) -> None:
    order = np.random.default_rng(1).permutation(DATASET.n_cells)
    shuffled = PerturbationDataset.from_adata(DATASET.adata[order].copy(), DATASET.fields)
    target = DATASET.combinations[:1]
    first, again, other = (
        s.split(d, target) for s, d in ((strategy, DATASET), (strategy, DATASET), (strategy, shuffled))
    )
    for part in PARTS:
        np.testing.assert_array_equal(getattr(first, part), getattr(again, part))
        assert named(first, part) == named(other, part)


def test_another_seed_gives_another_split() -> None:
    assert named(HeldOutCells(seed=0).split(DATASET), "test") != named(
        HeldOutCells(seed=1).split(DATASET), "test"
    )


def test_held_out_cells_cover_the_data_and_judge_every_label() -> None:
    split = HeldOutCells(0.2).split(DATASET)
    assert len(split.train) + len(split.test) == DATASET.n_cells
    assert labels_in(DATASET, split.test) == labels_in(DATASET, split.train) == set(DATASET.labels)
    assert len(split.test) == 0.2 * DATASET.n_cells
    assert split.held_out_perturbations == ()
    assert len(split.validation) == len(split.goal) == 0


def test_a_held_out_perturbation_takes_its_combinations_along() -> None:
    split = HeldOutPerturbations(perturbations=["GENE0001"]).split(DATASET)
    expected = {label for label in DATASET.perturbations if "GENE0001" in Label.parse(label).names}
    assert len(expected) > 1
    assert set(split.held_out_perturbations) == expected == labels_in(DATASET, split.test) - {"control"}


def test_at_least_one_perturbation_is_held_out_and_one_left() -> None:
    assert HeldOutPerturbations(0.0).split(DATASET).held_out_perturbations
    with pytest.raises(DataError, match="holding out all 1 measured perturbations leaves none to learn"):
        HeldOutPerturbations().split(screen(1, 0))
    with pytest.raises(DataError, match="no cell has the perturbation 'GENE9'"):
        HeldOutPerturbations(perturbations=["GENE9"]).split(DATASET)


def without_some_singles() -> PerturbationDataset:
    full = screen(n_combinations=12)
    kept = ~np.isin(full.labels, ["GENE0003", "GENE0004", "GENE0005"])
    return PerturbationDataset.from_adata(full.adata[kept].copy(), full.fields)


@pytest.mark.parametrize("dataset", [DATASET, without_some_singles()], ids=["all singles", "half of them"])
@pytest.mark.parametrize("seen", [0, 1, 2])
@pytest.mark.parametrize("seed", range(5))
def test_exactly_so_many_components_of_a_held_out_combination_are_seen(
    dataset: PerturbationDataset, seen: int, seed: int
) -> None:
    split = HeldOutCombinations(seen, fraction=0.2, seed=seed).split(dataset)
    learned = labels_in(dataset, split.train)
    judged = labels_in(dataset, split.test) - {"control"}
    assert judged
    for label in judged:
        assert len(Label.parse(label).names) == 2
        unseen = set(Label.parse(label).names) - learned
        assert len(unseen) == 2 - seen
        assert not any(unseen & set(Label.parse(known).names) for known in learned)
    left_out = set(dataset.perturbations) - learned - judged
    assert not left_out & labels_in(dataset, np.concatenate([split.test, split.goal, split.validation]))
    assert not (left_out and seen == 2)


def test_named_combinations_are_the_ones_held_out() -> None:
    target = DATASET.combinations[2]
    split = HeldOutCombinations(2, combinations=[target]).split(DATASET)
    assert split.held_out_perturbations == (target,)


def test_combinations_that_cannot_be_held_out() -> None:
    with pytest.raises(DataError, match="no combination of the 0 measured has 2 components"):
        HeldOutCombinations().split(screen(4, 0))
    pair = DATASET.combinations[0]
    with pytest.raises(
        DataError, match=rf"{Label.parse(pair).names[0]}.* has 2 components that are measured alone"
    ):
        HeldOutCombinations(2, combinations=[pair]).split(DATASET, hold_out=[Label.parse(pair).names[0]])
    everything = screen(3, 3)
    with pytest.raises(DataError, match="cannot all have 1 components seen at once"):
        HeldOutCombinations(1, combinations=list(everything.combinations)).split(everything)


def test_a_held_out_cell_type_keeps_its_control_cells_in_training() -> None:
    split = HeldOutCellTypes(["T"]).split(DATASET)
    types = DATASET.cell_types
    perturbed = DATASET.labels != "control"
    assert set(np.flatnonzero((types == "T") & perturbed)) <= set(split.test)
    assert not ((types == "T") & perturbed)[split.train].any()
    assert ((types == "T") & ~perturbed)[split.train].any()
    with pytest.raises(DataError, match=r"no cell type \['NK'\]; choose among \['B', 'T'\]"):
        HeldOutCellTypes(["NK"]).split(DATASET)


def test_a_target_needs_two_cells() -> None:
    lonely = screen(2, 1, cells=1)
    with pytest.raises(DataError, match="'GENE0000' has 1 cell; a target needs one to define the goal"):
        HeldOutCells().split(lonely, ["GENE0000"])


@pytest.mark.parametrize("fraction", [-0.1, 1.0, 2.0])
def test_fractions_out_of_range(fraction: float) -> None:
    with pytest.raises(ConfigurationError, match=r"give a share of cells in \[0, 1\)"):
        HeldOutCells(fraction)
    with pytest.raises(ConfigurationError, match="share of cells"):
        HeldOutCells().split(DATASET, DATASET.perturbations[:1], goal_fraction=fraction)


def test_learning_from_a_held_out_cell_is_a_leak() -> None:
    split = HeldOutCells(validation_fraction=0.1).split(DATASET, DATASET.combinations[:1])
    labels = DATASET.labels[split.train[:2]]
    assert split.require_train(split.train[:2], labels) is not None
    for part in ("validation", "test", "goal"):
        row = int(getattr(split, part)[0])
        assert split.part_of(row) == part
        with pytest.raises(
            LeakageError, match=rf"1 of 2 cells .*first: {DATASET.barcodes[row]}, part {part}"
        ):
            split.require_train(np.array([split.train[0], row]), labels)
    unused = HeldOutCombinations(1).split(DATASET)
    rows = np.setdiff1d(np.arange(DATASET.n_cells), np.concatenate([getattr(unused, part) for part in PARTS]))
    with pytest.raises(LeakageError, match="part unused"):
        unused.require_train(rows, DATASET.labels[rows])


def partners(dataset: PerturbationDataset, name: str) -> set[str]:
    return {label for label in dataset.combinations if name in label.names}


@pytest.mark.parametrize("strategy", [HeldOutCells(0.3), HeldOutCellTypes(["T"])], ids=repr)
def test_a_target_takes_its_combinations_out_of_training_and_they_are_used_for_nothing(
    strategy: SplitStrategy,
) -> None:
    split = strategy.split(DATASET, ["GENE0001"])
    combinations = partners(DATASET, "GENE0001")
    assert combinations
    assert labels_in(DATASET, np.concatenate([getattr(split, part) for part in PARTS])) == (
        set(DATASET.labels) - combinations
    )
    assert set(split.held_out_perturbations) == {"GENE0001", *combinations}
    assert {split.part_of(int(row)) for label in combinations for row in DATASET.population_rows(label)} == {
        "unused"
    }


def test_targets_and_splits_hold_out_by_the_same_rule() -> None:
    by_target = HeldOutCells().split(DATASET, ["GENE0001"])
    by_split = HeldOutPerturbations(perturbations=["GENE0001"]).split(DATASET)
    assert by_target.held_out_perturbations == by_split.held_out_perturbations
    learned = labels_in(DATASET, by_split.train)
    assert labels_in(DATASET, by_target.train) == learned
    # What a strategy was told to judge with judges, whatever the target.
    pair = min(partners(DATASET, "GENE0001"))
    both = HeldOutPerturbations(perturbations=[pair]).split(DATASET, ["GENE0001"])
    assert labels_in(DATASET, both.test) == {"control", "GENE0001", pair}


@given(st.lists(st.sampled_from(DATASET.perturbations), min_size=1, max_size=3), st.integers(0, 3))
def test_no_training_label_contains_a_held_out_one(targets: list[Label], which: int) -> None:
    strategies = (
        HeldOutCells(validation_fraction=0.1),
        HeldOutPerturbations(0.1),
        HeldOutCellTypes(["B"]),
        HeldOutPerturbations(perturbations=["GENE0003"]),
    )
    try:
        split = strategies[which].split(DATASET, targets)
    except DataError:  # nothing would be left to learn
        return
    for row in np.concatenate([split.train, split.validation]):
        assert not any(
            DATASET.labels[row].contains(held) for held in (*targets, *split.held_out_perturbations)
        )


def test_a_label_that_tells_of_a_held_out_one_is_a_leak() -> None:
    split = HeldOutPerturbations(perturbations=["GENE0001"]).split(DATASET)
    split.require_untold(["control", "GENE0000"])
    with pytest.raises(LeakageError, match=r"cells under GENE0001\+X would be learned from, .* GENE0001"):
        split.require_untold(["control", "X+GENE0001"])


def test_a_held_out_dose_leaves_other_doses_in_training() -> None:
    full = screen(3, 0)
    full.adata.obs["dose"] = np.arange(full.n_cells) % 2 + 1.0
    dosed = PerturbationDataset.from_adata(full.adata, replace(full.fields, dose_key="dose"))
    split = HeldOutCells().split(dosed, ["GENE0000:1"])
    assert split.held_out_perturbations == ("GENE0000:1",)
    assert "GENE0000:2" in labels_in(dosed, split.train)


def test_parts_that_overlap_are_refused() -> None:
    rows, none = np.array([0, 1]), np.array([], dtype=np.int64)
    with pytest.raises(LeakageError, match="two parts"):
        Split("mine", 0, rows, none, rows[1:], none, reference=none, barcodes=("a", "b"))
    with pytest.raises(LeakageError, match="outside training"):
        Split("mine", 0, rows[:1], none, rows[1:], none, reference=rows[1:], barcodes=("a", "b"))


def test_a_saved_split_finds_its_cells_in_any_order(tmp_path: Path) -> None:
    split = HeldOutPerturbations(seed=3, validation_fraction=0.1).split(DATASET, DATASET.perturbations[:1])
    # A checkpoint with anything but plain values in it does not load.
    assert {type(label) for label in split.to_dict()["held_out_perturbations"]} == {str}
    split.save(tmp_path / "split.json")
    backwards = PerturbationDataset.from_adata(DATASET.adata[::-1].copy(), DATASET.fields)
    loaded = Split.load(tmp_path / "split.json", backwards)
    assert (loaded.name, loaded.seed) == ("HeldOutPerturbations", 3)
    assert loaded.held_out_perturbations == split.held_out_perturbations
    assert all(named(loaded, part) == named(split, part) for part in PARTS)


def test_a_split_of_other_cells_or_no_split_at_all(tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    HeldOutCells().split(DATASET).save(path)
    part = PerturbationDataset.from_adata(DATASET.adata[5:].copy(), DATASET.fields)
    with pytest.raises(DataError, match="cells that the data do not have"):
        Split.load(path, part)
    for content in ("{", "[]", '{"name": "x"}'):
        path.write_text(content)
        with pytest.raises(DataError, match="not a split that perturbrl saved"):
            Split.load(path, DATASET)


class Options:
    def __init__(self, split: SplitStrategy) -> None:
        self.split = split


@pytest.mark.parametrize(
    "strategy", [HeldOutCombinations(1, combinations=["A+B"]), HeldOutCellTypes(["NK"], seed=4)]
)
def test_strategies_are_named_by_class_path(strategy: SplitStrategy) -> None:
    parser = jsonargparse.ArgumentParser()
    parser.add_class_arguments(Options, "data")
    options = {"class_path": f"perturbrl.data.splits.{type(strategy).__name__}", "init_args": vars(strategy)}
    parsed = parser.instantiate(parser.parse_object({"data": {"split": options}}))
    assert parsed.data.split == strategy


def unperturbed(**options) -> PerturbationDataset:
    adata = atlas(**options)
    return PerturbationDataset.from_adata(adata, detect_fields(adata, labels_needed=False))


def test_halves_of_an_atlas_have_every_cell_type() -> None:
    dataset = unperturbed(cells_per_type=10)
    split = HeldOutCells(0.5).split(dataset)
    for kind in TYPES:
        of_type = dataset.population_rows(f"cell_type={kind}")
        assert len(np.intersect1d(of_type, split.train)) == len(np.intersect1d(of_type, split.test)) == 5


def test_a_learned_target_gives_its_goal_cells_and_never_those_that_judge() -> None:
    dataset = unperturbed(cells_per_type=10)
    target = "cell_type=red"
    split = HeldOutCells(0.5, validation_fraction=0.2).split(
        dataset, [target], source="cell_type=stem", learn_target=True
    )
    own = dataset.population_rows(target)
    assert set(split.goal) == set(own) & set(split.train)
    assert len(split.goal) == 5
    assert set(own) == set(split.goal) | (set(own) & set(split.test))
    again = Split.from_dict(split.to_dict(), dataset)
    np.testing.assert_array_equal(again.goal, split.goal)
    plain = HeldOutCells(0.5).split(dataset, [target], source="cell_type=stem")
    assert not set(own) & set(plain.train)
    with pytest.raises(LeakageError, match="two parts"):
        replace(split, train=np.setdiff1d(split.train, split.goal[:1]))


def test_a_learned_label_is_not_held_out() -> None:
    split = HeldOutCells().split(DATASET, ["GENE0001"], source="control", learn_target=True)
    assert split.held_out_perturbations == ()
    combination = next(label for label in DATASET.combinations if "GENE0001" in label.names)
    assert set(DATASET.population_rows(combination)) & set(split.train)


def test_a_target_in_one_cell_type_takes_what_contains_its_label_there_out_of_training() -> None:
    split = HeldOutCells().split(DATASET, ["cell_type=T,perturbation=GENE0001"], source="control")
    told = {label for label in DATASET.perturbations if label.contains(Label.parse("GENE0001"))}
    learned = {(DATASET.labels[row], DATASET.cell_types[row]) for row in split.train}
    assert not {(label, kind) for label, kind in learned if label in told and kind == "T"}
    assert {(label, kind) for label, kind in learned if label in told and kind == "B"}


@pytest.mark.parametrize("fraction", [0.0, 0.5])
def test_a_source_without_cells_in_one_half_is_refused(fraction: float) -> None:
    dataset = unperturbed(cells_per_type=4 if fraction == 0 else 1)
    with pytest.raises(DataError, match=r"'cell_type=stem' is in the half that judges; change data\.split"):
        HeldOutCells(fraction).split(dataset, [], source="cell_type=stem", learn_target=True)
