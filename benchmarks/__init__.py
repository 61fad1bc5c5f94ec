"""Benchmarks: each pairs feedrank with a peer in one run on the same input. `feedrank bench --help`."""
