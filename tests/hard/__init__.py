"""Loads that are hard on one worker: a crowd, a favourite, a burst without Redis, a Redis that forgot; see
`__main__`."""
