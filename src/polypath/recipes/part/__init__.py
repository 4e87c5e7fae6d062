"""The experiments of the PaRT paper."""

# Seeds of the authors' five runs.
SEEDS: tuple[int, ...] = (456, 23743, 96253, 36, 2543)
