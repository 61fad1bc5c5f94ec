"""`feedrank inspect`: rows in words and numbers."""
