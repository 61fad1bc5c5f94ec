"""The functional core: rows, item index, features, ranking. Numpy and arithmetic, no I/O, no clock."""
