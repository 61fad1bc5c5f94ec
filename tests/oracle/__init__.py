"""The whole job once more, slowly and obviously: docs/*.md in plain Python integers, dicts and loops.

Nothing of models/, streams/ or topologies/ is imported here, so that what the fast path does can be compared
with what the pages say, bit for bit.

    users (2) -> items (3, 4) -> catalogue (5) -> candidates (7)
        -> features (8) -> score (9) -> rules (10) -> feeds (11)
"""
