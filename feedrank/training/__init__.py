"""Training: from a data set to a model's folder (beside the flow; needs the extra `train` for trees)."""
