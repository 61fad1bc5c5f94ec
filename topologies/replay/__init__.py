"""Replay (1 to 11): the live job's own steps over a stretch of the past, into a shadow namespace.

    source (Kafka range or files) -> users (2, 3) -> items (4) -> features -> feeds (5 to 11)

What a live worker has from Faust, changelogs and the group, a replay has from files in the shadow's
directory. The steps between are the same objects. docs/replay.md tells the rest.
"""
