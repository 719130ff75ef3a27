"""A fleet of simulated tarsnodes on a real API server."""
