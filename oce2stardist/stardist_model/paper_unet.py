"""Build the U-Net of the paper's StarDist, which stock StarDist's settings can't express."""

from typing import Any, Literal

from oce2stardist.stardist_model.backend import keras

Blocks = Literal["stock", "paper"]
"""Blocks of a U-Net level: two 3×3 convolutions, or what `build_paper_network` says."""

_KERNELS = (3, 1, 1, 3)
_GROWTH = 3
"""Factor of feature maps from level to level."""


def build_paper_network(config: Any) -> keras.Model:
    """Build the network of arXiv 2310.08501, App. B.

    Every level is a block of 3×3, 1×1, 1×1 and 3×3 convolutions with ReLU, of
    ``unet_n_filter_base`` feature maps times 3 per level; 2×2 max-pooling goes down, and
    nearest-neighbour upsampling, concatenated with the level's own maps, comes up.

    Channels, rays, grid, depth, feature maps and batch normalisation are those of `config`. The
    outputs are (prob, dist) of shapes (B, Y/grid, X/grid, 1) and (B, Y/grid, X/grid, n_rays).

    Notes
    -----
    The paper's convolutions are valid; these are padded, as StarDist needs predictions where
    the image is. A grid above 1 is pooled first, as in stock StarDist; the paper has none.
    """
    image = layer = keras.Input(config.net_input_shape, name="input")
    width, depth = config.unet_n_filter_base, config.unet_n_depth
    for index in range(int(config.grid[0]).bit_length() - 1):
        layer = _block(layer, width, f"grid_{index}", config)
        layer = keras.layers.MaxPooling2D(2, name=f"grid_{index}_pool")(layer)
    passed = []
    for level in range(depth):
        layer = _block(layer, width * _GROWTH**level, f"down_{level}", config)
        passed.append(layer)
        layer = keras.layers.MaxPooling2D(2, name=f"down_{level}_pool")(layer)
    layer = _block(layer, width * _GROWTH**depth, "middle", config)
    for level in reversed(range(depth)):
        layer = keras.layers.UpSampling2D(2, name=f"up_{level}_upsample")(layer)
        layer = keras.layers.Concatenate(name=f"up_{level}_join")([layer, passed[level]])
        layer = _block(layer, width * _GROWTH**level, f"up_{level}", config)
    if config.net_conv_after_unet:
        layer = _convolve(layer, config.net_conv_after_unet, 3, "features")
    prob = keras.layers.Conv2D(1, 1, activation="sigmoid", name="prob")(layer)
    dist = keras.layers.Conv2D(config.n_rays, 1, name="dist")(layer)
    return keras.Model(image, [prob, dist])


def _block(layer: Any, width: int, name: str, config: Any) -> Any:
    normalise = config.unet_batch_norm
    for index, kernel in enumerate(_KERNELS):
        layer = _convolve(layer, width, kernel, f"{name}_{index}", normalise=normalise)
    return layer


def _convolve(layer: Any, width: int, kernel: int, name: str, *, normalise: bool = False) -> Any:
    layer = keras.layers.Conv2D(width, kernel, padding="same", name=name)(layer)
    if normalise:
        layer = keras.layers.BatchNormalization(name=f"{name}_norm")(layer)
    return keras.layers.ReLU(name=f"{name}_relu")(layer)
