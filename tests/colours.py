"""Colours of pictures, by name, and where they are in one."""

import numpy as np

SKY, VERMILLION, YELLOW = (86, 180, 233), (213, 94, 0), (240, 228, 66)
ORANGE, WHITE = (230, 159, 0), (255, 255, 255)


def pixels_of(picture, colour):
    return (picture == np.array(colour, np.uint8)).all(axis=-1)
