"""Drives the napari plugin through its five steps on the demo image, and looks at each.

Writes pictures of the whole window into a folder; napari.png is one that is small enough for docs/.

Needs a screen, which may be one that nobody sees:
xvfb-run -a -s "-screen 0 1600x1000x24" python docs/draw_napari.py
"""

import argparse
import tempfile
import time
from pathlib import Path

import imageio.v3 as imageio
import napari
import numpy as np
from napari.qt import get_qapp
from PIL import Image
from stardist.data import test_image_nuclei_2d

from oce2stardist.evaluation.scores import score_image
from oce2stardist.labels import ids_at_edge, object_sizes, remove_objects

COLOURS = 128
"""Of the picture, so that it stays small."""


class User:
    """Does what a person does: clicks, draws, looks."""

    def __init__(self, folder):
        self.viewer = napari.Viewer()
        self.viewer.window._qt_window.resize(1230, 870)
        self.viewer.open_sample("oce2stardist", "nuclei")
        _, self.widget = self.viewer.window.add_plugin_dock_widget("oce2stardist")
        self.widget.images.folder.show_folder(folder / "work")
        self.folder = folder
        self.truth = test_image_nuclei_2d(return_mask=True)[1].astype(np.int32)

    def wait(self, seconds, until=lambda: False):
        """Let the window work."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not until():
            get_qapp().processEvents()
            time.sleep(0.02)

    def click(self, button, look_at=None):
        """Press a button and wait for the end of its step; `look_at` is a share of a task."""
        button.click()
        if look_at is not None:
            name, share = look_at
            self.wait(3600, lambda: self._is_at(name, share))
            self.look(f"during {name}")
        self.wait(3600, lambda: not self.widget.job.is_running)
        self.wait(1)
        print(self.widget.panel.status.text(), flush=True)

    def _is_at(self, name, share):
        bar = self.widget.panel.bar
        is_named = self.widget.panel.status.text().startswith(name)
        return not self.widget.job.is_running or (is_named and bar.value() >= share * bar.maximum())

    def correct(self, n_cells):
        """Outline some cells of the upper part as they are, in place of what lies there."""
        cells = self.viewer.layers["nuclei cells"]
        whole = remove_objects(self.truth, ids_at_edge(self.truth))
        whole[320:] = 0
        ids = np.random.default_rng(0).permutation(object_sizes(whole)[0])[:n_cells]
        labels = cells.data.copy()
        for number, one in enumerate(ids, start=int(labels.max()) + 1):
            is_cell = whole == one
            below = np.unique(labels[is_cell & (labels > 0)])
            covered = [
                i for i in below if (is_cell & (labels == i)).sum() * 2 > (labels == i).sum()
            ]
            labels = remove_objects(labels, covered)
            labels[is_cell] = number
        cells.data = labels
        self.wait(1.5)
        print(self.widget.cells.count.text(), flush=True)

    def look(self, name):
        """Save the whole window."""
        self.wait(0.5)
        picture = self.viewer.screenshot(canvas_only=False, flash=False)[..., :3]
        imageio.imwrite(self.folder / f"{name}.png", picture)

    def score(self, name):
        """Print how many cells of the lower part, where nothing was corrected, are found."""
        found = self.viewer.layers[name].data[320:]
        print(f"{name}: F1 {score_image(found, self.truth[320:]).f1:.3f}", flush=True)


def main():
    """Go through the steps."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pseudo-steps", type=int, default=600)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.mkdtemp()))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    user = User(options.folder)
    widget = user.widget
    widget.pseudo.steps.setValue(options.pseudo_steps)
    widget.finetune.steps.setValue(options.steps)
    user.look("images")
    user.click(widget.pseudo.button, look_at=("Training embeddings", 0.5))
    user.look("pseudo labels")
    user.score("nuclei cells")
    user.correct(12)
    user.look("corrected")
    user.click(widget.finetune.button, look_at=("Training StarDist", 0.4))
    user.click(widget.predict.button)
    user.score("nuclei predicted")
    user.viewer.layers["nuclei cells"].visible = False
    user.look("predicted")
    user.viewer.close()
    picture = Image.open(options.folder / "during Training StarDist.png")
    small = options.folder / "napari.png"
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(small, optimize=True)
    print(f"{small}: {small.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
