from pathlib import Path

import pytest

from perturbrl.data.allowed_perturbations import AllowedPerturbations
from perturbrl.errors import ConfigurationError, DataError


def test_names_given_one_by_one_are_meant_whether_known_or_not() -> None:
    assert AllowedPerturbations.of(["Gata1", "Spi1", "Gata1"]).among(["Spi1"]) == ("Gata1", "Spi1")
    assert AllowedPerturbations.of("Gata1").among([]) == ("Gata1",)


def test_of_a_file_what_is_known_is_meant(tmp_path: Path) -> None:
    (tmp_path / "factors.txt").write_text("Gata1\n\n Spi1 \nAdnp\n")
    given = AllowedPerturbations.of(str(tmp_path / "factors.txt"))
    assert given.names == ("Gata1", "Spi1", "Adnp")
    assert given.among(["Spi1", "Gata1", "Klf1"]) == ("Gata1", "Spi1")
    with pytest.raises(
        ConfigurationError, match=r"'factors\.txt' has none of the 1 names .* Gata1, Spi1 and Adnp"
    ):
        given.among(["GATA1"])


@pytest.mark.parametrize("name", ["mouse_tfs.txt", "prior/mouse_tfs", "TFS.CSV"])
def test_a_file_that_is_not_there_is_no_perturbation(name: str) -> None:
    with pytest.raises(DataError, match=f"there is no file '{name}' with names of perturbations"):
        AllowedPerturbations.of(name)
    assert AllowedPerturbations.of("NKX2.5").names == ("NKX2.5",)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00"])
def test_a_file_without_names_is_said(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "factors.txt").write_bytes(content)
    with pytest.raises(DataError, match=r"factors\.txt"):
        AllowedPerturbations.of(str(tmp_path / "factors.txt"))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "is empty, so nothing may be dosed"),
        ("", "has an empty name"),
        (["KLF1", " "], "has an empty name"),
        (["KLF1", "control"], "has 'control', which is the control"),
        ("KLF1+SET", "has 'KLF1\\+SET', which is a combination of KLF1 and SET; name single perturbations"),
    ],
)
def test_what_is_no_single_perturbation_is_said(given: list[str] | str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        AllowedPerturbations.of(given)


def test_a_plus_in_a_name_joins_nothing() -> None:
    assert AllowedPerturbations.of(["Ca2+", "(+)-JQ1", "C18:1"]).names == ("Ca2+", "(+)-JQ1", "C18:1")
