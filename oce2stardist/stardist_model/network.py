"""Build, continue and open StarDist2D networks."""

import contextlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from oce2stardist.config import StarDistConfig
from oce2stardist.errors import InputError, first_line, is_out_of_memory, name_some
from oce2stardist.runs.processor import asked_precision, may_use_amx
from oce2stardist.stardist_model.backend import GPUS, Config2D, StarDist2D, keras, tf
from oce2stardist.stardist_model.base import QuietNetwork, computing, place_of, quiet
from oce2stardist.stardist_model.paper_unet import Blocks, build_paper_network
from oce2stardist.stardist_model.scale import ModelScale, read_scale

if TYPE_CHECKING:
    from oce2stardist.stardist_model.predict import RawPrediction

_LARGEST_CONFIG = 1_000_000  # bytes
_LARGEST = {
    "n_rays": 1024, "n_channel_in": 1024, "n_classes": 1024, "unet_n_depth": 8,
    "unet_n_filter_base": 1024, "unet_n_conv_per_depth": 16, "net_conv_after_unet": 4096,
}  # fmt: skip
"""What a config.json may ask for: far above any model, far below what exhausts memory."""


def prepare_tensorflow(device: str, *, threads: int | None = None) -> None:
    """Choose the device, and let GPU memory grow as needed; call before the first model.

    From then on the same seed gives the same weights on the same machine: operations that are
    faster when they add in whatever order are not used. XLA, which would be another fifth
    faster on a processor, can't be had together with that.

    `threads` are those among which sums are shared out, which makes a difference in their last
    bits; by default as many as processors are free.
    """
    if device == "cuda" and not GPUS:
        raise InputError(
            "device must be one that TensorFlow sees here (cpu). Got cuda instead; "
            "install tensorflow[and-cuda] or pass --device cpu."
        )
    tf.config.experimental.enable_op_determinism()
    if threads is not None:
        try:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(1)
        except RuntimeError as error:  # TensorFlow has started its threads
            raise InputError(
                "deterministic must be asked for before TensorFlow computes in this process. Got "
                "a process in which it has; start a new one."
            ) from error
    with contextlib.suppress(RuntimeError):  # a model exists already: the choice was made
        if device == "cpu":
            tf.config.set_visible_devices([], "GPU")
            return
        for gpu in GPUS:
            tf.config.experimental.set_memory_growth(gpu, True)


class ConfigWithBlocks(Config2D):  # type: ignore[misc]  # stardist is not typed
    """StarDist's own config, and which blocks the U-Net is made of if not stock ones."""

    def __init__(self, *, oce2stardist_blocks: Blocks = "stock", **settings: Any) -> None:
        super().__init__(**settings)
        if oce2stardist_blocks != "stock":  # a key that plain stardist refuses
            self.oce2stardist_blocks = oce2stardist_blocks


class SparseStarDist2D(QuietNetwork, StarDist2D):  # type: ignore[misc]  # stardist is not typed
    """A StarDist2D of stock blocks, whose folder plain stardist opens, or of the paper's."""

    @property
    def _config_class(self) -> type[Config2D]:
        return ConfigWithBlocks

    def _build(self) -> keras.Model:
        if getattr(self.config, "oce2stardist_blocks", "stock") == "paper":
            return build_paper_network(self.config)
        return super()._build()

    scale: ModelScale = ModelScale()
    """By what images are zoomed before the network sees them."""

    def predict_patches(self, patches: Sequence[NDArray[np.float32]]) -> list["RawPrediction"]:
        """Run the network on normalised patches of one shape (Y, X, C)."""
        from oce2stardist.stardist_model.predict import predict_patches

        return predict_patches(self, patches)

    @property
    def multiple(self) -> int:
        """Pixels of which the height and width of the network's input must be multiples."""
        return int(max(self._axes_div_by("YX")))


def create_model(
    folder: Path,
    settings: StarDistConfig,
    *,
    channels: int,
    half_precision: bool = False,
    seed: int,
) -> SparseStarDist2D:
    """Build an untrained network of U-Net depth 3; its config.json goes to `folder`.

    In half precision the network computes in bfloat16; its weights stay float32, on disk too.
    """
    config = ConfigWithBlocks(
        oce2stardist_blocks=settings.blocks,
        axes="YXC",
        n_channel_in=channels,
        n_rays=settings.n_rays,
        grid=(settings.grid, settings.grid),
        unet_n_depth=3,
        unet_n_filter_base=settings.width,
        net_conv_after_unet=settings.features,
        unet_batch_norm=settings.batch_norm,
        train_tensorboard=False,
        **_training_keys(settings, from_nothing=True),
    )
    return _build(folder, config, half_precision=half_precision, seed=seed)


def _training_keys(settings: StarDistConfig, *, from_nothing: bool) -> dict[str, Any]:
    """Say in StarDist's words how the network is trained.

    Only the weights of the losses are read from there; the rest is for whoever trains on with
    stock StarDist.
    """
    return {
        "train_patch_size": (settings.patch_size, settings.patch_size),
        "train_batch_size": settings.batch_size,
        "train_learning_rate": settings.filled(from_nothing=from_nothing).learning_rate,
        "train_loss_weights": (1.0, settings.distance_weight),
    }


def continue_from(
    folder: Path,
    source: Path,
    settings: StarDistConfig,
    *,
    channels: int,
    half_precision: bool = False,
    seed: int,
) -> SparseStarDist2D:
    """Build the network of another StarDist folder, ours or stock, with its best weights.

    How it is trained is up to `settings`. Nothing is written to `source`.
    """
    old = open_model(source)
    if old.config.n_channel_in != channels:
        raise InputError(
            f"the model to start from must have the {channels} channel(s) of the images. Got "
            f"{old.config.n_channel_in} in {source}; start from another or leave out --init."
        )
    if old.config.n_classes is not None:
        raise InputError(
            f"the model to start from must tell cells from background only. Got {source} with "
            f"{old.config.n_classes} classes; start from another or leave out --init."
        )
    for key, value in _training_keys(settings, from_nothing=False).items():
        setattr(old.config, key, value)
    model = _build(folder, old.config, half_precision=half_precision, seed=seed)
    model.keras_model.set_weights(old.keras_model.get_weights())
    return model


def resolve_precision(precision: Literal["auto", "fp32", "mixed"]) -> Literal["fp32", "mixed"]:
    """Tell what ``auto`` comes to: mixed where TensorFlow has what computes faster in bfloat16.

    These are GPUs of NVIDIA from compute capability 8 on, and processors with AMX. For the variable
    that takes the place of ``auto`` see `asked_precision`.
    """
    if precision != "auto":
        return precision
    if (asked := asked_precision()) != "auto":
        return "mixed" if asked == "bf16" and can_compute_in_half_precision() else "fp32"
    gpus = tf.config.get_visible_devices("GPU")
    if not gpus and may_use_amx():
        return "mixed"
    for gpu in gpus:
        details = tf.config.experimental.get_device_details(gpu)
        if details.get("compute_capability", (0, 0)) >= (8, 0):  # of NVIDIA
            return "mixed"
    return "fp32"


def open_to_label(folder: Path, precision: Literal["auto", "fp32", "mixed"]) -> SparseStarDist2D:
    """Open a model, in a training's precision, for labels that are not compared with stardist's."""
    return open_model(folder, half_precision=resolve_precision(precision) == "mixed")


def can_compute_in_half_precision() -> bool:
    """Tell whether ONEDNN_MAX_CPU_ISA leaves the instructions that bfloat16 needs on a processor.

    TensorFlow looks at the processor alone, so that oneDNN would refuse in mid-training.
    """
    most = os.environ.get("ONEDNN_MAX_CPU_ISA", "ALL").upper()
    return bool(tf.config.get_visible_devices("GPU")) or (
        most in ("ALL", "DEFAULT") or most.startswith(("AVX512", "AVX10"))
    )


def _build(folder: Path, config: Any, *, half_precision: bool, seed: int) -> SparseStarDist2D:
    if half_precision and not can_compute_in_half_precision():
        raise InputError(
            "ONEDNN_MAX_CPU_ISA must be AVX512_CORE or more for precision mixed. Got "
            f"{os.environ['ONEDNN_MAX_CPU_ISA']}; unset it, or set precision: fp32."
        )
    keras.utils.set_random_seed(seed)
    with quiet(), computing(half_precision):
        return SparseStarDist2D(config, **place_of(folder))


def open_model(folder: Path, *, half_precision: bool = False) -> SparseStarDist2D:
    """Open a StarDist model folder, ours or stock, with best weights, thresholds and scale.

    In half precision it labels in bfloat16: as plain stardist does but for a pixel here and there.
    """
    check_model_files(folder)
    check_config(folder / "config.json", n_dim=2)
    try:
        with quiet(), computing(half_precision):
            model = SparseStarDist2D(None, **place_of(folder))
    except Exception as error:  # whatever foreign or broken files make StarDist and Keras raise
        if is_out_of_memory(error):
            raise
        raise InputError(
            f"{folder} must be a StarDist model folder. Got files that can't be used: "
            f"{first_line(error)}; pass the folder that `oce2stardist finetune -o` wrote."
        ) from error
    model.scale = read_scale(folder)
    return model


def check_model_files(folder: Path) -> None:
    """Refuse a folder that lacks the files of a model, and name those that may be meant."""
    needed = {"config.json": "config.json", "weights (.h5)": "*.h5"}
    missing = [what for what, pattern in needed.items() if not any(folder.glob(pattern))]
    if missing:
        raise InputError(
            f"{folder} must be a StarDist model folder. It lacks {' and '.join(missing)}; "
            f"pass {_name_near(folder)}."
        )


def _name_near(path: Path) -> str:
    """Name the model folders that may be meant: that of a file, or those in a folder."""
    near = [path.parent / "config.json"] if path.is_file() else sorted(path.glob("*/config.json"))
    folders = [str(config.parent) for config in near if config.exists()]
    return name_some(folders) if folders else "the folder that `oce2stardist finetune -o` wrote"


def check_config(path: Path, *, n_dim: int) -> None:
    """Look at config.json before a network of the size that it names is built."""
    try:
        if path.stat().st_size > _LARGEST_CONFIG:
            raise ValueError(f"it has {path.stat().st_size} bytes")
        config = json.loads(path.read_text(encoding="utf-8"))
        if config.get("n_dim", 2) != n_dim or "n_rays" not in config:
            raise ValueError(f"it is not that of a StarDist{n_dim}D model")
        for name, most in _LARGEST.items():
            if not 0 <= int(config.get(name) or 0) <= most:
                raise ValueError(f"{name} must be at most {most}, it is {config[name]}")
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{path} must be the config of a StarDist{n_dim}D model. Got a file that can't be "
            f"used: {first_line(error)}; pass the folder that `oce2stardist finetune -o` wrote."
        ) from error
