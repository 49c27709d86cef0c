"""Shared by every model: data, networks, augmentation, synthesis, clicks, export.

Axis order everywhere: volumes are (X, Y, Z) as nibabel gives them after reorientation to RAS+, with a
leading channel axis (C, X, Y, Z) and batch axis (N, C, X, Y, Z) in the networks. Slices are (C, A, B),
where A and B are the two in-plane axes in the same order as in the volume.
"""
