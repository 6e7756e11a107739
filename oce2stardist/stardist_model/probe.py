"""Tell what TensorFlow sees on this machine, to `oce2stardist doctor` from another process."""

from importlib import import_module
from typing import Any

from oce2stardist.errors import first_line
from oce2stardist.stardist_model.backend import tf
from oce2stardist.stardist_model.network import resolve_precision

_NEEDED = ("train", "predict", "checkpoint", "patches")
"""What stage three and prediction load from this folder."""


def describe_tensorflow() -> dict[str, Any]:
    """Load what StarDist needs, and compute once on every device.

    Of ``devices``, ``error`` is None where the device computes; ``chosen`` is what
    ``--device auto`` takes, and ``precision`` what is computed in there.
    """
    for module in _NEEDED:
        import_module(f"oce2stardist.stardist_model.{module}")
    seen = [*tf.config.list_physical_devices("GPU"), *tf.config.list_physical_devices("CPU")]
    devices = [_describe(device) for device in seen]
    return {
        "version": tf.__version__,
        "devices": devices,
        "chosen": devices[0]["name"],
        "precision": resolve_precision("auto"),
    }


def _describe(device: Any) -> dict[str, Any]:
    details = tf.config.experimental.get_device_details(device)
    kind, index = device.name.rsplit(":", 2)[-2:]
    name = "cpu" if kind == "CPU" else "cuda"
    title = details.get("device_name", name)
    return {"name": name, "title": title, "error": _compute_on(f"/{kind}:{index}")}


def _compute_on(name: str) -> str | None:
    """Convolve ones: a device that is seen may still lack the kernels, or the driver."""
    try:
        with tf.device(name):
            ones = tf.ones((1, 8, 8, 1))
            total = float(tf.reduce_sum(tf.nn.conv2d(ones, tf.ones((3, 3, 1, 1)), 1, "VALID")))
    except (tf.errors.OpError, RuntimeError) as error:
        return first_line(error)
    return None if total == 324 else f"a sum that is 324 came out as {total:g}"
