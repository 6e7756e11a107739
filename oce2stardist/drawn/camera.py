"""Turn a painted scene into what a microscope's camera stores."""

import numpy as np
from scipy import ndimage as ndi
from skimage.transform import resize

from oce2stardist.drawn.looks import Map


def blur(image: Map, rng: np.random.Generator) -> Map:
    """Blur as optics do, none to a tenth of a cell."""
    return np.asarray(ndi.gaussian_filter(image, rng.choice([0.0, 0.6, 1.0, 1.6, 2.4])))


def add_noise(image: Map, rng: np.random.Generator) -> Map:
    """Add noise of light (more where it is bright) and of the sensor, fine or a little smeared."""
    size = image.std() + 1e-6
    light = np.sqrt(np.clip(image - image.min(), 0, None) * size) * rng.uniform(0, 0.25)
    strength = light + rng.uniform(0.01, 0.45) ** 1.5 * size
    grain = rng.standard_normal(image.shape)
    smear = rng.choice([0.0, 0.7, 1.0], p=[0.6, 0.3, 0.1])
    if smear:
        grain = ndi.gaussian_filter(grain, smear)
        grain /= grain.std()
    return image + strength * grain


def lose_pixels(image: Map, rng: np.random.Generator) -> Map:
    """Make the image one of smaller cells that was enlarged: it holds fewer pixels than it has."""
    small = [round(side * rng.uniform(0.3, 0.8)) for side in image.shape]
    stored = resize(image, small, order=1, anti_aliasing=True)
    stored = stored + rng.uniform(0, 0.1) * stored.std() * rng.standard_normal(stored.shape)
    return np.asarray(resize(stored, image.shape, order=int(rng.choice([1, 3]))))


def bend_grey_values(image: Map, rng: np.random.Generator) -> Map:
    """Bring to 0 to 1, then make dim parts brighter or darker; now and then clip bright ones."""
    low, high = np.percentile(image, [0.5, 99.8])
    grey = np.clip((image - low) / (high - low + 1e-9), 0, 1.3)
    grey = grey ** np.exp(rng.normal(0, 0.35))
    return np.minimum(grey, rng.uniform(0.5, 1.0)) if rng.random() < 0.12 else grey


def store(image: Map, rng: np.random.Generator) -> Map:
    """Blur, add noise, now and then enlarge, and bend the grey values; about 0 to 1."""
    image = blur(image, rng)
    if rng.random() < 0.3:
        image = lose_pixels(image, rng)
    return bend_grey_values(add_noise(image, rng), rng)
