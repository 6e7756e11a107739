"""Object-centric embeddings: images in, per-pixel offsets and their spread out.

The only place that imports torch.
"""
