"""Faults from a seed against real processes: a broker, a Redis, three workers; see `__main__`."""
