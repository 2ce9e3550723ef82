"""The report in a real browser: nothing missing, nothing fetched, no complaint."""

from pathlib import Path

import pytest
from browser import CHROMIUM, look_at
from smoke_run import fit_in

import perturbrl
from perturbrl.cli import run
from perturbrl.data.synthetic import simulate_screen

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = fit_in(tmp_path_factory.mktemp("runs"), "--data.synthetic.cells_per_perturbation=40")
    checkpoint = folder / "checkpoints" / "last.ckpt"
    run(["test", f"--config={folder / 'config.yaml'}", f"--ckpt_path={checkpoint}"])
    return folder / "report"


@pytest.mark.parametrize("width", [1200, 420])
def test_the_page_opens_whole_without_a_network(report: Path, tmp_path: Path, width: int) -> None:
    page = report / "report.html"
    seen = look_at(page, tmp_path, width)
    assert seen.complaints == []
    assert seen.requests
    assert all(url.startswith(("file:", "data:")) for url in seen.requests)
    assert len(seen.images) == len(list(report.glob("*.png"))) >= 8
    assert all(image["width"] > 100 and len(image["alt"]) > 20 for image in seen.images)
    assert not seen.too_wide
    assert page.stat().st_size < 5_000_000
    for heading in ("What was asked", "The data", "Designs compared", "Predicted and measured response"):
        assert heading in seen.headings
    assert "% of cells into GENE0000" in seen.answer.replace("\u00a0", " ")


@pytest.mark.parametrize("width", [1200, 420])
def test_the_page_of_many_responses_opens_whole(tmp_path: Path, width: int) -> None:
    screen = simulate_screen(8, 60, 120, 30, n_combinations=2, seed=1)
    queries = [f"GENE000{i}+{gene}" for i in range(8) for gene in screen.var_names[8:58]]
    page = perturbrl.respond(screen, queries).save(tmp_path / "answers")
    seen = look_at(page, tmp_path / "browser", width)
    assert seen.complaints == []
    assert all(url.startswith(("file:", "data:")) for url in seen.requests)
    assert len(seen.images) == len(list(page.parent.glob("*.png"))) == 3
    assert all(image["width"] > 100 and len(image["alt"]) > 20 for image in seen.images)
    assert not seen.too_wide
    assert page.stat().st_size < 2_000_000
    assert "What each perturbation does" in seen.headings
    assert "of 400 queries" in seen.answer


def test_a_broken_page_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "broken.html"
    page.write_text(
        "<!doctype html><div style='width: 3000px'>wide</div><img src='missing.png' alt='gone'>"
        "<img src='http://localhost:9/remote.png'><script>console.error('spoken'); nothing.there()</script>"
    )
    seen = look_at(page, tmp_path / "browser")
    assert [image["width"] for image in seen.images] == [0, 0]
    assert any("spoken" in complaint for complaint in seen.complaints)
    assert any("nothing is not defined" in complaint for complaint in seen.complaints)
    assert any(url.startswith("http:") for url in seen.requests)
    assert seen.too_wide
