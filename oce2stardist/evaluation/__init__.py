"""Predicted and true labels in, scores out."""
