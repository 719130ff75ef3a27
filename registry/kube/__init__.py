"""What the service knows of Kubernetes, and nothing of TARS: connection and credentials, and following resources."""
