"""What the service costs: load over loopback against the real program, every answer checked.

``make bench`` runs all scenarios; ``make bench ARGS="--help"`` lists what can be chosen.
"""
