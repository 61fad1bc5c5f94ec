"""Mutated records by the hundred thousand, through the decoder and into dead letters.

python -m tests.fuzz --records 1000000 --from 0     # make fuzz RECORDS=1000000
"""
