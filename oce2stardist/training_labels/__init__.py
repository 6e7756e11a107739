"""Pseudo labels and annotations in, the labels that StarDist learns from out."""
