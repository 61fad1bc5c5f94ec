"""Evaluation: what a ranking is worth, in numbers with intervals (after the flow's end; pure)."""
