"""models/brain_mri: structures of the brain in head MRI of any contrast, learnt from label maps alone."""
