"""Evaluation of models on data sets, as text, JSON and one page (beside the flow)."""
