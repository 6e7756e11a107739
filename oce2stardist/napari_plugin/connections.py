"""Hear napari's events until the widget is closed."""

from collections.abc import Callable
from typing import Any


class Connections:
    """Callbacks of napari's events, which outlive the widget unless they are taken back.

    napari would go on calling them, and Qt's part of the widget would be gone.
    """

    def __init__(self) -> None:
        self._made: list[tuple[Any, Callable[..., None]]] = []

    def add(self, emitter: Any, callback: Callable[..., None]) -> None:
        """Let an emitter call back."""
        emitter.connect(callback)
        self._made.append((emitter, callback))

    def close(self) -> None:
        """Take all callbacks back."""
        for emitter, callback in self._made:
            emitter.disconnect(callback)
        self._made.clear()
