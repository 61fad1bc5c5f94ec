"""The seeded fault simulator: whole workers in one thread, and a seed that decides all that goes wrong.

Real are the shards, checkpoints, recovery, tailing readers, codecs, ingest, ticks, emission, settlement,
upkeep, every RocksDB, and the Lua fence in a real redis-server. Made are the event loop and its clock
(`loop`), what lies between processes (`network`), the brokers (`log`, `broker`), the clients of them
(`producer`, `consumer`, `reader`), the group (`group`) and what goes wrong (`faults`). `simulation` plays one
seed, `checks` compares it with the oracle, `teeth` breaks the product on purpose.

    python -m tests.simulation --seeds 1000 --from 0      # make simulate SEEDS=1000 FROM=0
    python -m tests.simulation --seed 17 --verbose        # what happens in seed 17, line by line
"""
