"""Codecs: records' bytes to columns and back (flow steps 1 and 5). Nothing here knows ranking.

    decoder = Decoder("avro", verbs, partitions=4)
    columns, dead = decoder.decode(topic, partition, offsets, timestamps_ms, keys, values)

Good records become columns; bad ones a second stream, never an exception. `SchemaPending` is the one
exception that live input can cause: the registry has not answered for a schema id yet, so the batch must wait
and be tried again (`await registry.fetch(pending.schema_ids)`, see streams/registry.py).
"""

from streams.codec.activities import Decoder
from streams.codec.encode import encode_activities, encode_activity, encode_item
from streams.codec.items import ItemChanges, ItemDecoder
from streams.codec.schemas import BundledSchemas, SchemaPending, Schemas

__all__ = [
    "BundledSchemas",
    "Decoder",
    "ItemChanges",
    "ItemDecoder",
    "SchemaPending",
    "Schemas",
    "encode_activities",
    "encode_activity",
    "encode_item",
]
