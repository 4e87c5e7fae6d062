"""Pure functions of tensors: losses, representation similarity, sharing histograms. Torch only, no I/O, no global RNG."""
