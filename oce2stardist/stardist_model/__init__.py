"""Images and training labels in, a StarDist model and its predictions out.

The only place that imports TensorFlow.
"""
