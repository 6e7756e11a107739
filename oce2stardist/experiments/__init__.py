"""What only experiments use: baselines, and searches that look at the truth."""
