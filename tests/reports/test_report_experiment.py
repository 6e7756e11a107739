"""The page of an experiment: every number with its run, and nothing that failed left out."""

import re
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
import yaml
from experiment_folders import (
    ExperimentFolder,
    fractions_experiment,
    labelled_images,
    summary_row,
    unsupervised_experiment,
)
from pages import DOCUMENTATION, SCRIPT, Page

from oce2stardist.errors import InputError
from oce2stardist.reports import write_experiment_report
from oce2stardist.reports.experiment_files import find_predicted_run, read_outcomes, read_table
from oce2stardist.reports.experiment_pictures import best_run, percentile_rows
from oce2stardist.reports.experiment_tables import pivot_table, summary_table


def texts(row):
    return [cell["text"] for cell in row]


def write(folder, images, **changes):
    given = {"title": "t", "lead": "l", "answers": ["First.", "Second."]} | changes
    return write_experiment_report(folder, test_images=images, **given)


@pytest.fixture(scope="module")
def unsupervised(tmp_path_factory):
    return write(*unsupervised_experiment(tmp_path_factory.mktemp("unsupervised")))


@pytest.fixture(scope="module")
def fractions(tmp_path_factory):
    return write(*fractions_experiment(tmp_path_factory.mktemp("fractions")))


def test_answers_stand_before_tables(fractions):
    page = Page(fractions)
    assert page.texts["h2"][0] == "In words"
    assert {"First.", "Second."} < set(page.texts["p"])
    assert page.source.index("First.") < page.source.index("<table")


def test_unsupervised_table_has_a_row_per_data_set_and_a_column_per_method(unsupervised):
    table = Page(unsupervised).tables[0]
    oracle = "oracle: picked with the truth"
    header = ["data set", "pseudo labels", "classical", "Cellpose (cyto3)", oracle]
    assert texts(table[0]) == header
    assert texts(table[1]) == ["one", "0.800 / 0.700", "0.600 / 0.500", "missing", "0.900 / 0.800"]
    assert texts(table[2]) == ["two", "0.790 / 0.690", "0.590 / 0.490", "missing", "0.890 / 0.790"]


def test_best_is_bold_and_the_oracle_never(unsupervised):
    pivot, rows = Page(unsupervised).tables[:2]
    assert [cell["bold"] for cell in pivot[1]] == [[], ["0.800", "0.700"], [], [], []]
    is_bold = {row[1]["text"]: any(cell["bold"] for cell in row) for row in rows[1:5]}
    assert [name for name, bold in is_bold.items() if bold] == ["pseudo labels"]
    assert "oracle: picked with the truth" in is_bold


def test_f1_and_seg_may_be_best_under_different_methods():
    rows = [
        summary_row(method="pseudo", f1_mean=0.9, seg_mean=0.3),
        summary_row(method="classical", f1_mean=0.8, seg_mean=0.40001),
        summary_row(method="stardist", f1_mean=np.nan, seg_mean=np.nan),
        summary_row(method="cellpose", f1_mean=0.7, seg_mean=0.39999),  # the same, as written
        summary_row(method="finetune", f1_mean=1.0, seg_mean=1.0, oracle=True),
        summary_row(method="pseudo", f1_mean=0.2, seg_mean=0.1, group="LUNG"),
    ]
    table = pivot_table(pd.DataFrame(rows))
    assert [row[1] for row in table] == ["group", "LUNG", "all images"]
    assert table[0][-1] == "StarDist, fine-tuned (oracle: picked with the truth)"
    bold = [[part.text for part in cell.parts if part.is_bold] for cell in table[2][2:]]
    assert bold == [["0.900"], ["0.400"], [], ["0.400"], []]
    assert table[1][3:] == [None] * 4


def test_every_row_links_to_its_runs(fractions):
    table = Page(fractions).tables[0]
    assert "scale" not in texts(table[0]) and "group" not in texts(table[0])
    for row in table[1:]:
        assert len(row[-1]["links"]) == (1 if row[1]["text"] == "pseudo labels" else 3)
        for link in row[-1]["links"]:
            assert (fractions.parent / link / "cell.yaml").exists()
    alphas = [row[4]["text"] for row in table[1:]]
    about = yaml.safe_load((fractions.parent / table[2][-1]["links"][2] / "cell.yaml").read_text())
    assert alphas[1] == "0" and about["name"] == "finetune-1.0-0.0-seed2"


def test_tables_show_means_with_their_deviation(fractions):
    table = Page(fractions).tables[0]
    named = dict(zip(texts(table[0]), texts(table[1]), strict=True))
    # three seeds: 0.601, 0.611, 0.621
    assert (named["F1"], named["± F1"], named["repeats"]) == ("0.611", "0.010", "3")
    assert (named["annotated cells"], named["share"]) == ("20", "1 %")
    assert table[5][7]["text"] == "–"  # one repeat has no deviation


def test_failed_and_missing_runs_are_listed_with_reasons(fractions, unsupervised):
    again = "it has not ended; run the same command again"
    for path, expected in (
        (fractions, [("failed", "out of memory"), ("not finished", again)]),
        (unsupervised, [("missing", "no weights <here>")] * 2),
    ):
        _, *rows = Page(path).tables[-2]
        assert [(row[2]["text"], row[3]["text"]) for row in rows] == expected
        for row in rows:
            assert (path.parent / row[0]["links"][0]).name == row[0]["text"]
            assert (path.parent / row[0]["links"][0]).is_dir()
    assert Page(fractions).texts["p"][1].startswith("● Red Not every run")
    assert "1 failed, 1 not finished" in Page(fractions).texts["p"][1]
    assert Page(unsupervised).texts["p"][1].startswith("● Amber Not every run")


def test_figures_are_saved_in_every_format_and_shown_as_vectors(fractions, unsupervised):
    both = {f"{name}-{at}" for name in ("percentiles", "pipeline") for at in "12"}
    for path, names in (
        (fractions, {"fractions-1", "curves", "percentiles-1", "pipeline-1"}),
        (unsupervised, {"curves", "gallery"} | both),
    ):
        files = {file.name for file in (path.parent / "figures").iterdir()}
        assert files == {f"{name}.{kind}" for name in names for kind in ("svg", "pdf", "png")}
        links = [link for row in Page(path).tables[-1] for cell in row for link in cell["links"]]
        assert {link.rpartition("/")[2] for link in links} > files
        assert all((path.parent / link).exists() for link in links)
    kinds = [re.match(r"data:image/(\w+)", img["src"])[1] for img in Page(fractions).pictures]
    assert kinds == ["svg", "svg", "jpeg", "jpeg"]


def test_scales_are_plotted_and_an_experiment_that_finished_has_no_warning(tmp_path):
    folder = ExperimentFolder(tmp_path, "scales")
    images = labelled_images(["a"])
    for scale in (0.5, 1.0, 1.5):
        cell = folder.add_cell(f"scale{scale}")
        folder.add_scores(cell, "set", images, 0.5, method="pseudo", scale=scale)
    path = write(folder.write(), {"set": images})
    page = Page(path)
    assert (path.parent / "figures" / "scales.svg").exists()
    assert "scale" in texts(page.tables[0][0])
    assert page.texts["p"][1] == "● Green Every run of the grid has finished."
    assert "3 of 3 runs of the grid finished." in page.texts["p"]


def test_images_at_the_percentiles_of_f1_are_shown_with_their_embeddings(tmp_path):
    folder, images = unsupervised_experiment(tmp_path, data_sets=["one"])
    summary, results = (read_table(folder / name) for name in ("summary.csv", "results.csv"))
    shown = best_run(summary, results, "one")
    assert (shown.name, shown.run) == ("pseudo labels", "cells/0-pseudo")  # not the oracle
    rows = percentile_rows(folder, shown, images["one"], also=[])
    # F1 falls from the first image to the last: 0.8, 0.75 ... 0.55
    places = {0: "one05", 25: "one04", 50: "one03", 75: "one01", 100: "one00"}
    assert [row.title for row in rows] == [f"{n}th percentile: {at}" for n, at in places.items()]
    np.testing.assert_allclose([row.f1 for row in rows], [0.55, 0.6, 0.65, 0.75, 0.8])
    truths = {image.stem: image.labels for image in images["one"]}
    for row, stem in zip(rows, places.values(), strict=True):
        np.testing.assert_array_equal(row.truth, truths[stem])
        np.testing.assert_array_equal(row.labels, np.roll(truths[stem], 1, axis=1))
        assert row.offsets.shape == (2, 60, 90)


def test_what_cannot_be_shown_is_named_and_figures_of_an_earlier_page_are_gone(tmp_path):
    folder, images = unsupervised_experiment(tmp_path)
    for file in (folder / "cells").glob("1-*/labels/*.tif"):
        file.unlink()
    page = Page(write(folder, images))
    assert page.source.count("Not shown, because what it takes was not kept: two.") == 2
    page = Page(write(folder, {}))
    assert page.source.count("Not shown, because what it takes was not kept: one, two.") == 2
    assert "No labels were kept to show." in page.texts["p"]
    assert {path.stem for path in (folder / "report" / "figures").iterdir()} == {"curves"}


def test_embeddings_are_found_in_cells_that_others_need(tmp_path):
    folder, _ = unsupervised_experiment(tmp_path, data_sets=["one"])
    run = find_predicted_run(folder, ["cells/0-classical"], "one02")
    assert run == folder / "cells" / "0-embeddings" / "run"
    assert find_predicted_run(folder, ["cells/0-classical"], "other") is None
    assert find_predicted_run(folder, ["cells/0-cellpose"], "one02") is None


def test_names_are_shown_and_not_run(tmp_path):
    name = "<script>alert(1)<"  # "/" can't be in the name of a file
    folder = ExperimentFolder(tmp_path, f"<b>{SCRIPT}")
    images = labelled_images([f"{name}{i}" for i in range(2)])
    cell = folder.add_cell(f"{name}#?%", status="finished")
    folder.add_scores(cell, SCRIPT, images, 0.5, method=SCRIPT)
    folder.add_cell("bad", status="failed", reason=SCRIPT)
    given = {"title": SCRIPT, "lead": SCRIPT, "answers": [SCRIPT]}
    page = Page(write(folder.write(), {SCRIPT: images}, **given))
    assert SCRIPT not in page.source and "<script>alert" not in page.source
    assert "script" not in page.tags
    assert SCRIPT in page.texts["td"] and SCRIPT in page.texts["p"]
    link = page.tables[0][1][-1]["links"][0]
    assert unquote(link) == f"../cells/{name}#?%" and "#" not in link and "?" not in link


def test_nothing_is_fetched_and_links_stay_in_the_folder(fractions):
    page = Page(fractions)
    assert all(link.startswith(("data:", "../", f"{DOCUMENTATION}/")) for link in page.links)
    assert not re.search(r"url\(|@import|https?://", page.source.replace(DOCUMENTATION, ""))


def test_tables_of_an_experiment_without_scores_say_so(tmp_path):
    folder = ExperimentFolder(tmp_path, "fractions")
    folder.add_unscored("a", "set", "classical", status="failed", reason="no memory")
    page = Page(write(folder.write(), {}))
    assert "No run of the grid has scores yet." in page.texts["p"]
    assert "no memory" in page.texts["td"]


@pytest.mark.parametrize("name", ["results.csv", "curves.csv", "run.yaml"])
def test_a_folder_without_an_experiment_is_refused(tmp_path, name):
    folder, images = unsupervised_experiment(tmp_path, data_sets=["one"])
    (folder / name).unlink()
    with pytest.raises(InputError, match=f"Got no .*{name}; run the same command again"):
        write(folder, images)


def test_tables_are_read_with_names_that_look_like_numbers_or_nothing(tmp_path):
    columns = {"image": ["007", "NA"], "group": ["", "nan"], "oracle": [True, False]}
    pd.DataFrame(columns | {"f1": [0.5, None]}).to_csv(tmp_path / "a.csv", index=False)
    read = read_table(tmp_path / "a.csv")
    assert {name: list(read[name]) for name in columns} == columns
    assert read["f1"].isna().tolist() == [False, True]


def test_only_what_the_tables_need_is_listed_and_without_files_it_has_not_finished(tmp_path):
    for name in ("base", "top", "other"):
        (tmp_path / "cells" / name).mkdir(parents=True)
    (tmp_path / "cells" / "top" / "cell.yaml").write_text("name: a\nneeds: {embeddings: base}\n")
    cells = read_outcomes(tmp_path, ["cells/top"])
    assert [(cell.name, cell.run) for cell in cells] == [("base", "cells/base"), ("a", "cells/top")]
    assert {cell.status for cell in cells} == {"not finished"}


def test_a_row_of_the_summary_finds_its_runs_among_missing_values():
    results = pd.DataFrame(
        summary_row(image="(all)", seed=seed, run=f"cells/{alpha}-{seed}", alpha=alpha)
        for seed in (1, 0)
        for alpha in (np.nan, 0.5)
    )
    summary = pd.DataFrame([summary_row(alpha=alpha) for alpha in (0.5, np.nan)])
    rows = summary_table(summary, results)
    links = [[part.href for part in row[-1].parts if part.href] for row in rows[1:]]
    assert links == [[f"../cells/{alpha}-{seed}" for seed in (0, 1)] for alpha in (0.5, np.nan)]
