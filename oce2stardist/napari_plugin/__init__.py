"""The napari plugin: the steps from open image layers to a StarDist model, in a dock widget.

It starts the commands of `oce2stardist` as processes, so neither torch nor TensorFlow is ever
loaded into napari, and Stop is what Ctrl-C is at the prompt.
"""
