"""Images and training labels in, a StarDist model and its predictions out."""
