"""Trained models (9): fitting and scoring in numpy. `streams.model_folder` reads and writes them."""
