"""What operators and their systems see: health, metrics, logs."""
