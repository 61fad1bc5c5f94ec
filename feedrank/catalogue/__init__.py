"""`feedrank features`: the catalogue of features, made from their definitions and from what was measured."""
