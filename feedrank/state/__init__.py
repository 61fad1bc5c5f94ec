"""`feedrank state`: rows out of a namespace and back, checked against the topics, and mended."""
