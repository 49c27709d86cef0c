"""models/hippocampus_mri: anterior and posterior hippocampus in cropped T1 MRI."""
