"""Data sets: what was served and what came of it, as Parquet (beside the flow; reads it, changes nothing)."""
