"""Points, strokes and verdicts in the commands: what trains, what judges, what is new input."""

import json

import numpy as np
import pandas as pd
import pytest
import tifffile
import yaml
from listener import Listener
from scenes import discs_scene
from scipy import ndimage as ndi
from small_models import FINETUNING

from oce2stardist.errors import InputError
from oce2stardist.images.label_files import read_labels, write_labels
from oce2stardist.napari_plugin.work_folder import WorkFolder
from oce2stardist.runners.finetune import finetune_stardist
from oce2stardist.runners.merge import merge_run
from oce2stardist.suggestion.evidence import SuggestionRun
from oce2stardist.training_labels.draw_cells import CellDraw


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Two images of six discs and the pseudo labels of a run, which are the truth."""
    folder = tmp_path_factory.mktemp("lab")
    rows = []
    for index in range(2):
        image, labels = discs_scene(6, (96, 96), 9, seed=index)
        (folder / "images").mkdir(exist_ok=True)
        tifffile.imwrite(folder / "images" / f"f{index}.tif", image.astype(np.float32))
        write_labels(folder / "run" / "pseudo" / "labels" / f"f{index}.tif", labels)
        rows += [(f"f{index}", label, 0.5) for label in range(1, 7)]
    (folder / "run" / "pseudo" / "stage.yaml").write_text("{finished: true, settings: {}}")
    table = pd.DataFrame(rows, columns=["image", "label", "confidence"])
    table.to_csv(folder / "run" / "pseudo" / "objects.csv", index=False)
    (folder / "run" / "run.yaml").write_text(
        yaml.safe_dump({"inputs": {"images_from": str(folder / "images")}})
    )
    return folder


def pseudo(lab, stem="f0"):
    return read_labels(lab / "run" / "pseudo" / "labels" / f"{stem}.tif")


def middle(labels, label):
    y, x = ndi.center_of_mass(labels == label)
    return round(y), round(x)


def write_points(folder, lab, *labels, stem="f0"):
    places = [middle(pseudo(lab, stem), label) for label in labels]
    folder.mkdir(exist_ok=True)
    rows = "".join(f"{stem},{y},{x}\n" for y, x in places)
    (folder / "points.csv").write_text(f"image,y,x\n{rows}")
    return folder


def tune(lab, output, annotations, **options):
    return finetune_stardist(
        lab / "images", output, annotations=annotations, pseudo=lab / "run", config=FINETUNING,
        **options,
    )  # fmt: skip


def test_points_alone_train_nothing_judges_and_other_points_are_another_run(lab, tmp_path):
    listener = Listener()
    annotations = write_points(tmp_path / "drawn", lab, 1, 2, 3)
    distrust = lab / "run" / "pseudo" / "parameters.yaml"
    distrust.write_text("trust: {value: false}\n")
    result = tune(lab, tmp_path / "model", annotations, reporter=listener)
    distrust.unlink()
    training = result.model / "training"
    assert pd.read_csv(training / "cells.csv").empty
    objects = pd.read_csv(training / "objects.csv")
    assert objects["source"].value_counts().to_dict() == {"pseudo": 9, "confirmed": 3}
    is_confirmed = np.isin(pseudo(lab), [1, 2, 3])
    np.testing.assert_array_equal(read_labels(training / "sparse" / "f0.tif") > 0, is_confirmed)
    assert not (training / "sparse" / "f1.tif").exists()
    parameters = yaml.safe_load((result.model / "parameters.yaml").read_text())
    assert parameters["alpha"]["value"] == 0.5  # though the run distrusts its labels
    assert parameters["f1"]["value"] is None and "best" not in parameters
    assert parameters["hints"]["value"] == 3
    assert (result.history[["loss_sparse", "loss_pseudo"]] > 0).all(axis=None)
    assert any(line.startswith("Points and verdicts confirm 3 ps") for line in listener.said)
    assert "confirmed by points or verdicts, trained on" in result.report.read_text()
    tune(lab, tmp_path / "model", annotations, reporter=listener)
    assert any("is finished" in line for line in listener.said)
    write_points(tmp_path / "drawn", lab, 1, 2, 4)
    with pytest.raises(InputError, match="overwrite"):
        tune(lab, tmp_path / "model", annotations)


@pytest.mark.usefixtures("without_pages")
def test_outlines_judge_beside_points_that_train(lab, tmp_path):
    annotations = write_points(tmp_path / "drawn", lab, 1, 2, 3, 4)
    drawn = np.isin(pseudo(lab), [5, 6]) * pseudo(lab)
    write_labels(annotations / "f0.tif", drawn)
    result = tune(lab, tmp_path / "model", annotations)
    cells = pd.read_csv(result.model / "training" / "cells.csv")
    assert set(cells["label"]) == {5, 6} and sorted(cells["role"]) == ["held_back", "training"]
    held_back = read_labels(result.model / "training" / "held_back" / "f0.tif")
    assert set(np.unique(held_back[held_back > 0])) <= {5, 6}
    parameters = yaml.safe_load((result.model / "parameters.yaml").read_text())
    assert "on 2 annotated cells" in parameters["alpha"]["reason"]
    assert "1 held-back annotated cell" in parameters["f1"]["reason"]


def test_merge_follows_every_kind_and_suggest_leaves_out_what_they_settled(lab, tmp_path):
    labels = pseudo(lab)
    annotations = write_points(tmp_path / "drawn", lab, 1)
    (annotations / "v.csv").write_text(
        "image,id,verdict\nf0,2,wrong\nf0,3,background\nf0,4,right\n"
    )
    inside = np.argwhere(labels == 5)
    (top, left), (bottom, right) = inside.min(axis=0).tolist(), (inside.max(axis=0) + 1).tolist()
    ring = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
    box = {"type": "Feature", "properties": {"classification": {"name": "box"}},
           "geometry": {"type": "Polygon", "coordinates": [ring]}}  # fmt: skip
    y, x = middle(labels, 6)
    stroke = {"type": "LineString", "coordinates": [[x - 3, y + 0.5], [x + 4, y + 0.5]]}
    features = [box, {"type": "Feature", "geometry": stroke, "properties": {}}]
    (annotations / "f0.geojson").write_text(
        json.dumps({"type": "FeatureCollection", "features": features})
    )
    merged = merge_run(lab / "run", annotations)
    of_first = merged.objects[merged.objects["image"] == "f0"]
    assert dict(zip(of_first["pseudo_id"], of_first["source"], strict=True)) == dict.fromkeys(
        (1, 4, 5, 6), "confirmed"
    )
    assert (merged.pseudo["f0"][labels == 2] == -1).all()
    assert (merged.sparse["f0"][labels == 3] == 0).all()
    known = SuggestionRun(lab / "run").annotations("f0", labels.shape)
    assert (known[np.isin(labels, [1, 4, 5, 6])] > 0).all()
    assert (known[labels == 2] == -1).all()


def test_points_in_the_working_folder_of_napari_stay_and_are_read_beside_corrections(lab, tmp_path):
    work = WorkFolder.claim(tmp_path / "work")
    y, x = middle(pseudo(lab), 1)
    work.annotations.mkdir()
    (work.annotations / "f0.csv").write_text(f"index,axis-0,axis-1\n0,{y},{x}\n")
    corrected = np.where(pseudo(lab) == 2, 9, -1).astype(np.int32)
    work.write_annotations({"f0": corrected})
    command = work.finetune([], run=lab / "run")
    given = command[command.index("--annotations") + 1]
    merged = merge_run(lab / "run", given, cells=CellDraw(zero="background"))
    of_first = merged.objects[merged.objects["image"] == "f0"]
    assert of_first["source"].value_counts().to_dict() == {"pseudo": 4, "manual": 1, "confirmed": 1}
