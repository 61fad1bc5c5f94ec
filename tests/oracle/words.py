"""What a feed says of its entries (docs/ranking.md, What is emitted)."""

EXPLORED = "shown to find out whether you like it"

SOURCE_WORDS = {
    "in_network": "you follow the author",
    "embedding": "close to your interests",
    "item_to_item": "people who like what you like engaged with it",
    "social_proof": "people you follow engaged with it",
    "trending": "trending",
    "topic_trending": "trending in one of your topics",
    "explore": "new",
}

FEATURE_WORDS = {
    "author_long_pos": ("from an author you like", 0),
    "author_long_share": ("from one of your favourite authors", 0),
    "author_short_pos": ("from an author you liked lately", 0),
    "topic_long_pos": ("about a topic you like", 0),
    "topic_long_share": ("about one of your main topics", 0),
    "topic_short_pos": ("like what you liked lately", 0),
    "author_followed": ("you follow the author", 0),
    "topic_followed": ("about a topic you follow", 0),
    "similarity_long": ("close to your interests", 1024),
    "similarity_short": ("close to what you liked lately", 1024),
    "strong_rate_7d": ("people like it", -24576),
    "strong_rate_24h": ("liked more today", 0),
    "author_strong_rate": ("from an author people like", 0),
    "trend": ("trending", 32768),
    "popularity_24h": ("popular today", 20480),
    "popularity_long": ("popular for long", 20480),
    "age": ("new", 40960),
    "followed_engagers": ("liked by people you follow", 0),
    "strong_rate_z": ("liked more than the rest", 4096),
}
"""Feature -> sentence and usual value, in the order of the features."""
