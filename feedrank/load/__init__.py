"""Real data as items and activities: pure readers (one per format) and the sender to the topics (step 1)."""
