"""Pure functions of tensors: losses, CKA, sharing histograms. Torch only, no I/O, no global random state."""
