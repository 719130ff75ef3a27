"""What routing costs: ``python -m benchmarks.routing``."""
