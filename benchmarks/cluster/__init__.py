"""Measure the service beside a real Kubernetes API server that is full: see __main__."""
