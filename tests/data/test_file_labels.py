import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from hypothesis import given
from hypothesis import strategies as st

from perturbrl.data.dataset import PerturbationDataset
from perturbrl.data.file_labels import cells_at_dose_zero, read_labels
from perturbrl.data.labels import Label, Part
from perturbrl.data.presets import FieldMap
from perturbrl.errors import DataError

DOSED = FieldMap("drug", "vehicle", dose_key="dose")


def labels(drugs, doses, fields: FieldMap = DOSED) -> list[Label]:
    return read_labels(pd.DataFrame({"drug": drugs, "dose": doses}), fields)


def screen(drugs, doses) -> PerturbationDataset:
    obs = pd.DataFrame({"drug": drugs, "dose": doses}, index=[f"c{i}" for i in range(len(drugs))])
    x = np.random.default_rng(0).poisson(5.0, (len(drugs), 4)).astype(np.float32) + 1
    return PerturbationDataset.from_adata(AnnData(x, obs=obs), DOSED)


def test_cells_at_two_doses_are_two_populations() -> None:
    dataset = screen(["vehicle", "dex", "dex", "dex", "IFNB"], [np.nan, 0.1, 10.0, 0.1, 5.0])
    assert dataset.perturbations == ("IFNB", "dex:0.1", "dex:10")
    assert dataset.population_rows("dex:0.1").tolist() == [1, 3]
    assert dataset.population_rows(" dex : 0.10").tolist() == [1, 3]
    assert dataset.population_rows("dex:10").tolist() == [2]
    assert dataset.population_rows("IFNB").tolist() == [4]


def test_a_combination_names_the_dose_of_each_part_that_has_several() -> None:
    found = labels(
        ["vehicle", "A", "A+B", "B+A", "B", "A+vehicle"], ["1", "1", "0.5+2", "2+0.50", "2", "1.0+1"]
    )
    assert found == ["control", "A:1", "A:0.5+B", "A:0.5+B", "B", "A:1"]
    assert labels(["vehicle", "A+B", "A"], ["1", "2", "1"]) == ["control", "A:2+B", "A:1"]


def test_where_each_perturbation_has_one_dose_labels_stay_plain() -> None:
    assert labels(["vehicle", "A", "B", "A+B"], ["0", "1", "3.5", "1+3.5"]) == ["control", "A", "B", "A+B"]
    assert labels(["vehicle", "A", "A"], [0.0, np.nan, np.nan]) == ["control", "A", "A"]
    no_column = FieldMap("drug", "vehicle")
    assert labels(["vehicle", "A", "A"], [0.0, 1.0, 2.0], no_column) == ["control", "A", "A"]


def test_at_a_dose_of_zero_nothing_was_added() -> None:
    found = labels(["vehicle", "A", "A", "A+B", "B"], ["0", "0", "2", "0+3", "3"])
    assert found == ["control", "control", "A", "B", "B"]
    obs = pd.DataFrame({"drug": ["vehicle", "A", "A"], "dose": [0.0, 0.0, 2.0]})
    assert cells_at_dose_zero(obs, DOSED, read_labels(obs, DOSED)) == 1


def test_a_colon_in_a_name_survives_beside_doses() -> None:
    dataset = screen(["vehicle", "C18:1", "C18:1", "C16:0"], [0.0, 0.5, 1.0, 3.0])
    assert dataset.perturbations == ("C16:0", "C18:1:0.5", "C18:1:1")
    assert dataset.require_label("C16:0").parts == (Part("C16:0"),)
    assert dataset.require_label("C18:1:0.5").parts == (Part("C18:1", 0.5),)
    with pytest.raises(DataError, match=r"'C18:1' is none of the doses measured; .*C18:1:0.5 and C18:1:1$"):
        dataset.require_label("C18:1")


def test_a_dose_left_open_or_not_measured_lists_the_measured_ones() -> None:
    dataset = screen(["vehicle", "dex", "dex", "dex", "dex+B"], ["0", "0.1", "1", "10", "1+2"])
    for asked in ("dex", "dex:5"):
        with pytest.raises(
            DataError, match=f"'{asked}' is none of .*choose one of dex:0.1, dex:1 and dex:10$"
        ):
            dataset.require_label(asked)
    with pytest.raises(DataError, match=r"no cell has .*'dex:1\+C'.*did you mean .*dex:1"):
        dataset.require_label("dex:1+C")
    assert dataset.populations.named("dex:1+vehicle") == "dex:1"


@pytest.mark.parametrize(
    ("drugs", "doses", "message"),
    [
        (["vehicle", "A+B"], ["0", "1+2+3"], r"'A\+B' has 2 parts and its dose '1\+2\+3' in obs\['dose'\] 3"),
        (["vehicle", "A", "A"], [0.0, 1.0, np.nan], r"some cells of A have a dose .* others have none"),
        (["vehicle", "C18", "C18", "C18:1"], [0, 1, 2, 7], "two perturbations would both be called 'C18:1'"),
    ],
)
def test_doses_that_cannot_be_told_apart(drugs, doses, message: str) -> None:
    with pytest.raises(DataError, match=message):
        labels(drugs, doses)


@given(
    st.lists(
        st.tuples(st.sampled_from(["A", "B", "C18:1", "Ca2+"]), st.sampled_from([0.1, 1.0, 10.0])), min_size=1
    )
)
def test_cells_share_a_label_where_they_share_name_and_dose(cells: list[tuple[str, float]]) -> None:
    drugs, doses = zip(("vehicle", 0.0), *cells, strict=True)
    found = labels(list(drugs), list(doses))[1:]
    measured = {name: {dose for other, dose in cells if other == name} for name, _ in cells}
    for (name, dose), label in zip(cells, found, strict=True):
        assert label.parts == (Part(name, dose if len(measured[name]) > 1 else None),)
    assert len(set(found)) == len(set(cells))
