"""models/modality_2d: which of MedNIST's six kinds of picture this is."""
