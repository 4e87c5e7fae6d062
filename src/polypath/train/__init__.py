"""The run engine: devices, batches, epochs, checkpoints, records."""
