"""Evolution, as pure ask and tell (nothing yet)."""
