"""Build and open StarDist3D networks."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from oce2stardist.config import StarDistConfig
from oce2stardist.errors import InputError, first_line, is_out_of_memory
from oce2stardist.stardist_model.backend import Config3D, StarDist3D, keras, rays_from_json
from oce2stardist.stardist_model.base import QuietNetwork, computing, place_of, quiet
from oce2stardist.stardist_model.network import check_config, check_model_files
from oce2stardist.stardist_model.rays import lie_in_plane, rays_with_plane
from oce2stardist.stardist_model.volume_scale import VolumeScale, read_volume_scale

if TYPE_CHECKING:
    from oce2stardist.stardist_model.volume_predict import RawVolume


class SparseStarDist3D(QuietNetwork, StarDist3D):  # type: ignore[misc]  # stardist is not typed
    """A StarDist3D that learns from labels known only in places; plain stardist opens its folder.

    `scale` is by what stacks are zoomed before the network sees them.
    """

    scale: VolumeScale = VolumeScale()

    def predict_patches(self, patches: Sequence[NDArray[np.float32]]) -> list["RawVolume"]:
        """Run the network on normalised patches of one shape (Z, Y, X, C)."""
        from oce2stardist.stardist_model.volume_predict import predict_patches

        return predict_patches(self, patches)

    @property
    def multiple(self) -> tuple[int, int, int]:
        """Voxels of which the sides (z, y, x) of the network's input must be multiples."""
        z, y, x = self._axes_div_by("ZYX")
        return int(z), int(y), int(x)

    @property
    def anisotropy(self) -> float:
        """How many times as many voxels a cell has in y and x as in z."""
        return float(self.config.anisotropy[0]) if self.config.anisotropy else 1.0


def create_volume_model(
    folder: Path,
    settings: StarDistConfig,
    *,
    anisotropy: float,
    channels: int,
    half_precision: bool,
    seed: int,
) -> SparseStarDist3D:
    """Build an untrained network of U-Net depth 2; its config.json goes to `folder`.

    `anisotropy` is how many times as many voxels a cell has in y and x as in z.
    """
    rays = rays_with_plane(
        n_rays=settings.n_rays, n_in_plane=settings.n_rays // 4, anisotropy=anisotropy
    )
    config = Config3D(
        axes="ZYXC",
        rays=rays,
        n_channel_in=channels,
        anisotropy=(anisotropy, 1.0, 1.0),
        grid=(1, 2, 2),  # of planes none is left out: only one in many may be annotated
        unet_n_depth=2,
        unet_n_filter_base=settings.width,
        net_conv_after_unet=settings.features,
        unet_batch_norm=settings.batch_norm,
        train_tensorboard=False,
        train_patch_size=(settings.patch_planes, settings.patch_size, settings.patch_size),
        train_batch_size=settings.batch_size,
        train_learning_rate=settings.filled(from_nothing=True).learning_rate,
        train_loss_weights=(1.0, settings.distance_weight),
    )
    keras.utils.set_random_seed(seed)
    with quiet(), computing(half_precision):
        model = SparseStarDist3D(config, **place_of(folder))
    return _with_planes(model)


def open_volume_model(folder: Path) -> SparseStarDist3D:
    """Open a StarDist3D folder, ours or stock, with best weights, thresholds and scale."""
    check_model_files(folder)
    check_config(folder / "config.json", n_dim=3)
    try:
        with quiet():
            model = SparseStarDist3D(None, **place_of(folder))
    except Exception as error:  # whatever foreign or broken files make StarDist and Keras raise
        if is_out_of_memory(error):
            raise
        raise InputError(
            f"{folder} must be a StarDist3D model folder. Got files that can't be used: "
            f"{first_line(error)}; pass the folder that `oce2stardist finetune -o` wrote."
        ) from error
    model.scale = read_volume_scale(folder)
    return _with_planes(model)


def _with_planes(model: SparseStarDist3D) -> SparseStarDist3D:
    vertices = rays_from_json(model.config.rays_json).vertices
    model.in_plane = lie_in_plane(np.asarray(vertices))
    return model
