"""Trained models (9): fitting and scoring in numpy. `topologies.model_folder` reads and writes them."""
