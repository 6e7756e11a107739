"""Every setting of a run: one frozen model per stage. The defaults are the `fast` preset."""

import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from typing_extensions import Self

from oce2stardist.errors import InputError, one_line
from oce2stardist.labels import Instances

_LARGEST_CONFIG = 1_000_000
"""Bytes; a config is a page of text."""

_MOST_VALUES = 10_000
_DEEPEST = 20


class Settings(BaseModel):
    """Frozen, with no other keys than those named; a field's docstring describes it."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )


class EmbeddingConfig(Settings):
    """Training of the offset network, and its noisy inference (stage one)."""

    feature_maps: int = Field(24, ge=1, le=512)
    """Feature maps at full resolution."""
    growth: int = Field(1, ge=1, le=8)
    """Factor of feature maps at half resolution."""
    initialisation: Literal["wide", "default"] = "wide"
    """Offsets start some pixels long, or as torch draws them; the paper names none."""
    crop_size: int = Field(140, ge=40, le=2048, multiple_of=2)
    """Side of the training crops, pixels at working scale; the loss sees 16 less."""
    batch_size: int = Field(8, ge=1, le=1024)
    """Crops in a training step, over all processes."""
    start: Literal["drawn", "none"] = "drawn"
    """Begin with a network trained on drawn cells, if it is as wide, or with nothing."""
    steps: int | None = Field(None, ge=1)
    """Training steps; empty takes epochs, and else 150 from drawn cells and 600 from nothing."""
    epochs: int | None = Field(None, ge=1)
    """Length in epochs, as in the paper; one draws as many crops as cover all images once."""
    optimiser: Literal["adamw", "adam"] = "adamw"
    """adam is the paper's."""
    learning_rate: float = Field(2e-3, gt=0, le=1)
    """Peak learning rate."""
    schedule: Literal["one_cycle", "steps"] = "one_cycle"
    """Rise and cosine fall, or division by ten at drop_at."""
    drop_at: tuple[float, ...] = (0.4, 0.6)
    """Shares of the training after which the schedule `steps` divides by ten."""
    pairs: Literal["dense", "sampled"] = "dense"
    """Compare whole shifted images, or draw anchors and references as the paper does."""
    displacements_per_step: int = Field(16, ge=1, le=1000)
    """Shifts compared in a step (pairs: dense)."""
    density: float = Field(0.1, gt=0, le=1)
    """Share of pixels drawn as anchors, and as references of each (pairs: sampled)."""
    kappa: float = Field(10.0, ge=1, le=100)
    """Largest distance between the pixels of a pair, pixels."""
    temperature: float = Field(10.0, gt=0)
    """tau of Eq. 5, squared pixels."""
    sigma: Literal["paper", "code"] = "paper"
    """Penalty of a pair: the sigmoid of the paper's Eq. 5, or 1 - exp(-d2/tau) as in its code."""
    reduction: Literal["mean", "sum"] = "mean"
    """Over pairs: the mean of the paper's Eq. 5, or the sum of its code."""
    reference_gradient: bool = True
    """Let gradients pass the reference, as the paper's text; its code does not (sampled pairs)."""
    regularisation: float = Field(1e-5, ge=0)
    """Weight of the mean offset length (lambda_reg)."""
    centring: float = Field(1e-3, ge=0)
    """What regularisation gains over the second half of the training; 0 in the paper."""
    augment: bool = True
    """Flip and turn training crops by quarters."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto trains in float32, and predicts in bfloat16 where that is faster (AMX, most GPUs)."""
    copies: int | None = Field(None, ge=2, le=1000)
    """Noisy copies predicted per image; empty takes 16 for small sets, 8 for large; paper: 32."""
    noise: float = Field(0.03, gt=0, lt=1)
    """Probability of a pixel of a copy to be replaced; paper: 0.01."""
    tile_size: int = Field(256, ge=32)
    """Side of the tiles of inference, pixels."""

    @property
    def begins_drawn(self) -> bool:
        """Whether training begins with drawn cells: asked for, and of the start's width."""
        own = EmbeddingConfig.model_fields
        fits = all(getattr(self, name) == own[name].default for name in ("feature_maps", "growth"))
        return self.start == "drawn" and fits

    @property
    def usual_steps(self) -> int:
        """Length of a training where neither steps nor epochs is named."""
        return 150 if self.begins_drawn else 600


class PseudoConfig(Settings):
    """From offsets to pseudo labels (stage one)."""

    channels: Literal["auto", "as_is", "stains", "grey"] = "auto"
    """What enters the network: all channels, stain densities (RGB bright field), their mean."""
    intensity: Literal["compressed", "linear"] = "compressed"
    """Bring dim cells closer to bright ones before the network sees them; paper: linear."""
    knee: float = Field(20.0, gt=0)
    """Where compression sets in, standard deviations of the noise (intensity: compressed)."""
    working_diameter: float = Field(28.0, gt=8)
    """Images are rescaled so that a cell of median diameter measures this many pixels, above 16;
    stacks: 14, above 8. The network sees less than a cell."""
    scale: Literal["auto", "set", "image"] = "auto"
    """One scale for all images, or one for each; auto: for each where sizes differ a lot."""
    threshold: Literal["auto", "pooled", "per_image"] = "auto"
    """Otsu on the spread of the whole set or of each image (paper); auto checks it."""
    spread: Literal["log", "linear"] = "log"
    """What is thresholded: the logarithm of the spread, or the spread itself (paper)."""
    smoothing: float = Field(2.0, ge=0, le=50)
    """Gaussian that smooths what is thresholded, pixels at working scale; paper: 0."""
    clustering: Literal["density", "mean_shift"] = "density"
    """Fast density clustering, or scikit-learn's mean shift."""
    bin_seeding: bool = True
    """Start mean shift from one place per bandwidth; the paper's code does not."""
    fitted_share: float = Field(0.1, gt=0, le=1)
    """Share of the pixels that mean shift is fitted to."""
    bandwidth: float | None = Field(None, gt=0)
    """Kernel radius, pixels at working scale; empty means 0.43 of working_diameter."""
    min_cluster: float = Field(0.06, ge=0, lt=1)
    """Smallest cluster, halo included, as share of the area of a cell of median diameter."""
    max_ratio: float = Field(0.8, gt=0)
    """Largest spread of an object's embeddings over that of its pixels; 1 on flat background."""
    halo: Literal["none", "shrink", "otsu", "contrast"] = "contrast"
    """How the rim of background around each cell is taken off; paper: shrink, its code: otsu."""
    shrink: float = Field(3.0, ge=0, le=50)
    """Pixels at working scale taken off (halo: shrink)."""
    level: float = Field(0.46, gt=0, lt=1)
    """Where between background (0) and cell (1) the outline lies (halo: contrast)."""
    reach: float = Field(0.14, ge=0, le=1)
    """How far outside a cluster the outline may lie, diameters (halo: contrast)."""
    min_unity: float = Field(0.675, ge=0, le=1)
    """How much touching pieces must look like one cell to be joined; 1 joins nothing (paper)."""
    min_size: float = Field(0.0625, ge=0, lt=1)
    """Smallest object kept, as share of the area of a cell of median diameter."""
    choose: bool = True
    """Choose what is left at its default from annotations, or without them from stability."""
    variants: int = Field(2, ge=0, le=8)
    """Other bandwidths whose agreement is an object's confidence; 0 gives all confidence 1."""
    witness: Literal["drawn", "none"] = "drawn"
    """Let the network that was trained on drawn cells correct the objects; paper: none. Where
    images are taken in blocks this is left out."""

    @property
    def kernel_radius(self) -> float:
        """The bandwidth, or what an empty one means; pixels at working scale."""
        return self.bandwidth or 0.43 * self.working_diameter


class MergeConfig(Settings):
    """Annotations and pseudo labels become training labels (stage two)."""

    background_distance: float = Field(30.0, ge=0)
    """Background this close to an annotated cell is known, pixels at original scale."""
    overlap: float = Field(0.0, ge=0, lt=1)
    """Share of a pseudo object that may lie on annotated cells; paper: 0, not one pixel."""


class StarDistConfig(Settings):
    """Training of the StarDist network (stage three)."""

    alpha: Annotated[float, Field(ge=0, le=1)] | Literal["auto"] = "auto"
    """Weight of the pseudo half of each batch, 0 to 1; auto judges it on the annotated cells."""
    object_weights: bool = True
    """Weigh each pseudo object by its confidence; off: all weigh alike, as in the paper."""
    working_diameter: float | None = Field(28.0, ge=8)
    """Images are rescaled so that a cell of median diameter measures this many pixels; empty
    leaves them as they are (paper)."""
    start: Literal["drawn", "none"] = "drawn"
    """Begin with a network that was trained on drawn cells, or with nothing (paper). The drawn
    one has the default rays, grid, blocks, width, features and batch_norm; others need none."""
    teacher: bool = True
    """Where alpha is auto, learn the annotated cells alone for half of the steps, and let that
    network say which pseudo objects are taught in the other half; not in the paper."""
    start_share: Annotated[float, Field(ge=0, lt=1)] | Literal["auto"] = "auto"
    """Share of what training began with that stays in the model's weights, 0 to 1. auto takes 0.5
    where it began with drawn cells and fewer than a third of the images have annotated cells, which
    may be unlike the others; else 0 (paper)."""
    n_rays: int = Field(32, ge=4, le=256, multiple_of=4)
    """Radial directions of the star-convex polygons."""
    grid: int = Field(2, ge=1, le=8)
    """Subsampling of the prediction: 1, 2, 4 or 8."""
    blocks: Literal["stock", "paper"] = "stock"
    """U-Net blocks: StarDist's own, or the paper's 3×3, 1×1, 1×1, 3×3 (plain stardist can't)."""
    width: int = Field(32, ge=1, le=512)
    """Feature maps of the first U-Net level (unet_n_filter_base)."""
    features: int = Field(128, ge=0, le=1024)
    """Feature maps before the heads (net_conv_after_unet); 0 leaves this layer out."""
    batch_norm: bool = True
    """Normalise feature maps over the batch (unet_batch_norm): learns in far fewer steps."""
    precision: Literal["auto", "fp32", "mixed"] = "auto"
    """auto computes in half precision where a GPU, or a processor with AMX, gains from it."""
    patch_size: int = Field(96, ge=32, le=2048)
    """Side of the training patches, pixels; a multiple of 8 * grid."""
    patch_planes: int = Field(16, ge=4, le=512, multiple_of=4)
    """Planes of the training patches of stacks."""
    batch_size: int = Field(8, ge=2, le=1024, multiple_of=2)
    """Patches in a step, half of them sparse, half pseudo."""
    steps: int | None = Field(None, ge=1)
    """Training steps; empty takes 1500 from nothing, 800 from a trained network on, and 500 where
    the drawn start finds the annotated cells well already."""
    learning_rate: float | None = Field(None, gt=0, le=1)
    """Peak learning rate (Adam); empty takes 3e-3, 1e-3 and 3e-4 in the same cases."""
    schedule: Literal["cosine", "steps"] = "cosine"
    """Fall to zero along a cosine, or division by ten at drop_at."""
    drop_at: tuple[float, ...] = (0.15, 0.4, 0.8)
    """Shares of the training after which the schedule `steps` divides by ten."""
    warm_up: float = Field(0.05, ge=0, lt=1)
    """Share of the steps over which the learning rate rises (schedule: cosine)."""
    distance_weight: float = Field(1.0, ge=0)
    """Weight of the distances beside the object probability (train_loss_weights; stardist: 0.2)."""
    around_objects: float = Field(0.9, ge=0, le=1)
    """Share of the patches drawn around an object."""
    zoom: float = Field(0.0, ge=0, le=1)
    """Patches are enlarged or made smaller by up to 1 + zoom, at random."""
    intensity: float = Field(1.0, ge=0, le=2)
    """Strength of the intensity augmentation; 0 turns it off."""
    held_back: float = Field(0.2, ge=0, le=0.5)
    """Share of the annotated cells that judge weights and thresholds instead of training."""
    folds: int | Literal["auto"] = 0
    """Judge by cross-validation over so many folds, each a training of the same length, and train
    on all cells; 0 holds cells back; auto: 3 where held-back cells would be few."""
    checks: int = Field(5, ge=1)
    """How often during training the held-back cells are looked at."""
    patience: int | None = Field(None, ge=1)
    """Stop once so many checks in a row bring no better score; empty trains to the end."""
    rounds: int = Field(1, ge=1, le=20)
    """Trainings in all; from the second on, the model's own labels are the pseudo labels."""
    how_many_more: bool = False
    """Tell what more annotated cells would bring, by three trainings on parts of them, each of
    a fifth of the steps; takes 12 cells. Off, as a run takes so much longer."""

    def filled(self, *, from_nothing: bool, knows: bool = False) -> "StarDistConfig":
        """Return the settings with what is empty filled in, for a training that begins so.

        `knows` says that the network to start from finds the cells well already.
        """
        steps, rate = (1500, 3e-3) if from_nothing else (500, 3e-4) if knows else (800, 1e-3)
        return self.model_copy(
            update={
                "steps": self.steps or steps,
                "learning_rate": self.learning_rate or rate,
            }
        )

    @model_validator(mode="after")
    def _sizes_fit(self) -> "StarDistConfig":
        if isinstance(self.folds, int) and not (self.folds == 0 or 2 <= self.folds <= 20):
            raise ValueError(f"folds must be 0, or 2 to 20, or auto. Got {self.folds} instead.")
        if self.rounds > 1 and self.folds not in ("auto", 0):
            raise ValueError(
                f"folds must be 0 or auto where rounds is above 1: held-back cells judge the "
                f"rounds. Got folds {self.folds} and rounds {self.rounds} instead."
            )
        if self.grid & (self.grid - 1):
            raise ValueError(f"grid must be 1, 2, 4 or 8. Got {self.grid} instead.")
        if self.patch_size % (8 * self.grid):
            raise ValueError(
                f"patch_size must be a multiple of 8 * grid = {8 * self.grid}. "
                f"Got {self.patch_size} instead."
            )
        return self


OF_STACKS: Mapping[str, Any] = {
    # The network of stacks sees 8 voxels where that of images sees 16 pixels, so cells are half as
    # large there, and so is every length.
    "pseudo.working_diameter": 14.0,
    "pseudo.smoothing": 1.0,
    "pseudo.witness": "none",
    "embedding.kappa": 5.0,
    "embedding.temperature": 2.5,  # squared pixels
    # What a step and a tile hold is limited by memory.
    "embedding.crop_size": 40,
    "embedding.batch_size": 4,
    "embedding.tile_size": 64,
    # As many rays for a cell's surface as its outline has twice; a quarter lies in its plane.
    "stardist.working_diameter": 14.0,
    "stardist.n_rays": 64,
    "stardist.width": 16,
    "stardist.features": 64,
    "stardist.patch_size": 48,
    "stardist.batch_size": 4,
    "stardist.steps": 500,
    "stardist.learning_rate": 2e-3,
    "stardist.start": "none",
}
"""What a setting that is left at its default is in stacks. Others are the same as in images."""


class Document(Settings):
    """Settings that have a YAML file of their own."""

    example: ClassVar[str] = "configs/fast.yaml"
    """The file that shows every key, for messages."""

    @classmethod
    def from_yaml(cls, path: Path) -> Self:
        """Read a config file; what it does not name keeps the default."""
        try:
            if path.stat().st_size > _LARGEST_CONFIG:
                raise InputError(
                    f"{path}: a config must be smaller than {_LARGEST_CONFIG} bytes. "
                    f"Got {path.stat().st_size}; pass a config file."
                )
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: the config can't be read: {error}") from error
        content = _parse_yaml(text, path)
        if content is None:
            content = {}
        if not isinstance(content, dict):
            raise InputError(
                f"{path}: a config must be a mapping of keys. Got {type(content).__name__}; "
                f"see {cls.example} for the form."
            )
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise InputError(f"{path.name}: {_one_line(error, cls.example)}") from error

    def to_yaml(self) -> str:
        """Write every setting as YAML that `from_yaml` reads back to an equal config."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)

    def replace(self, **changes: Any) -> Self:
        """Return a config with settings changed, by dotted name; values are checked again.

        Examples
        --------
        >>> Config().replace(**{"seed": 3, "stardist.alpha": 0.0}).stardist.alpha
        0.0
        """
        content = self.model_dump()
        for name, value in changes.items():
            *sections, key = name.split(".")
            part = content
            for section in sections:
                part = part[section]
            part[key] = value
        try:
            return type(self).model_validate(content)
        except ValidationError as error:
            raise InputError(_one_line(error, self.example)) from error


class Config(Document):
    """A whole run."""

    seed: int = Field(0, ge=0, lt=2**31)
    """The one seed of every random draw."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where the networks run."""
    deterministic: bool = False
    """Give the same labels, to the bit, with any number of threads or workers of one machine."""
    instances: Instances = "auto"
    """What a number in an annotated label image is: a cell (labels), or a mask of which each piece
    is one (components); auto: a cell, and what can't be is refused."""
    embedding: EmbeddingConfig = EmbeddingConfig()
    """The offset network."""
    pseudo: PseudoConfig = PseudoConfig()
    """Pseudo labels."""
    merge: MergeConfig = MergeConfig()
    """Training labels."""
    stardist: StarDistConfig = StarDistConfig()
    """The StarDist network."""

    def for_stacks(self) -> "Config":
        """Return the config with what is left at its default as it is in stacks."""
        own, default = self.model_dump(), Config().model_dump()
        changes = {}
        for name, value in OF_STACKS.items():
            section, key = name.split(".")
            if own[section][key] == default[section][key]:
                changes[name] = value
        return self.replace(**changes)


def _parse_yaml(text: str, path: Path) -> Any:
    """Parse a config, within limits: a page of YAML can unfold to more than memory holds."""
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # of a number too long, or an impossible date
        raise InputError(f"{path}: the config is not YAML: {one_line(error)}") from error
    except RecursionError as error:
        raise InputError(
            f"{path}: a config must be nested at most {_DEEPEST} deep. Got more; "
            "pass a config file."
        ) from error
    _check_extent(content, path)
    return content


def _check_extent(content: Any, path: Path) -> None:
    """Refuse more values than any config has, each counted as often as aliases repeat it."""
    waiting, n_values = [(content, 0)], 0
    while waiting:
        value, depth = waiting.pop()
        n_values += 1
        if n_values > _MOST_VALUES or depth > _DEEPEST:
            raise InputError(
                f"{path}: a config must hold at most {_MOST_VALUES} values, nested at most "
                f"{_DEEPEST} deep. Got more, perhaps by anchors that repeat each other; "
                "write the values out."
            )
        if isinstance(value, dict):
            waiting += [(part, depth + 1) for pair in value.items() for part in pair]
        elif isinstance(value, (list, tuple, set)):
            waiting += [(part, depth + 1) for part in value]


def _one_line(error: ValidationError, example: str) -> str:
    """Say the first thing that is wrong, and how many more there are."""
    by_key: dict[str, list[Any]] = {}
    for problem in error.errors():
        by_key.setdefault(_key(problem["loc"]), []).append(problem)
    (key, (first, *rest)), *others = by_key.items()
    if first["type"] == "extra_forbidden":
        message = f"{key} must be a known setting; see {example} for all of them."
    elif first["type"] == "value_error":
        message = f"{key}: {first['ctx']['error']}"
    else:
        wanted = first["msg"].replace("Input should", "must", 1)
        if rest:  # a value that may be a number or a word: pydantic says what is wrong with both
            wanted = f"{wanted}, or {rest[0]['ctx']['expected']}"
        message = f"{key} {wanted}. Got {reprlib.repr(first['input'])} instead."
    return message + (f" ({len(others)} more)" if others else "")


def _key(location: tuple[int | str, ...]) -> str:
    """Name a setting as in the file, without pydantic's names for the branches of a union."""
    parts = [str(part) for part in location]
    if parts and (parts[-1] in ("float", "int") or "-" in parts[-1] or "[" in parts[-1]):
        parts.pop()
    return ".".join(parts)
