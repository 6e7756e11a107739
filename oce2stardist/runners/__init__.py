"""Runners connect the stages, read and write run folders, and print nothing."""
