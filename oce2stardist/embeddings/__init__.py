"""Train the offset network on images and predict offsets; only here is torch imported."""
