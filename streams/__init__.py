"""The edge: Kafka, codecs, RocksDB, checkpoints, Redis, metrics. It knows bytes, nothing of ranking.

A worker is one process on one core: BLAS threads would spin beside its loop and take other workers' cores, so
there is one, unless the environment says otherwise. That must be said before numpy is loaded, and every
command loads something of this package first.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
