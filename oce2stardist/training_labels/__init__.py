"""Make the labels that StarDist learns from out of pseudo labels and annotations."""
