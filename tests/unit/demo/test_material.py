"""What the demos work on."""

import csv

import pytest

pytest.importorskip("sklearn")
pytest.importorskip("PIL")

from PIL import Image

from prs_dask.demo.material import write_digits, write_wine


def test_every_scan_is_an_image_whose_digit_is_known(tmp_path):
    truth = write_digits(tmp_path)
    scans = sorted((tmp_path / "scans").iterdir())
    assert [path.name for path in scans] == sorted(truth)
    assert len(scans) == 899
    assert len(list((tmp_path / "training").iterdir())) == 898
    assert set(truth.values()) == set("0123456789")
    with Image.open(scans[0]) as image:
        assert (image.size, image.mode) == ((8, 8), "L")


def test_no_scan_was_learnt_from(tmp_path):
    write_digits(tmp_path)
    names = [{path.name for path in (tmp_path / folder).iterdir()} for folder in ("training", "scans")]
    assert not names[0] & names[1]


def test_the_table_of_wines_has_the_rows_whose_cultivar_is_known(tmp_path):
    truth = write_wine(tmp_path)
    with open(tmp_path / "wines" / "wines.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["wine"] for row in rows] == list(truth)
    assert len(rows) == 89
    assert "cultivar" not in rows[0]


def test_the_source_folder_has_all_that_the_entry_script_needs(tmp_path):
    write_wine(tmp_path)
    assert sorted(path.name for path in (tmp_path / "source").iterdir()) == ["model.joblib", "score_wine.py"]
