"""Train StarDist models on training labels, and predict with them."""
