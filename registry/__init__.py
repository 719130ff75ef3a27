"""The registry of the TARS RPC framework, for Kubernetes."""

__version__ = "0.1.0"
