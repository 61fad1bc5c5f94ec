"""`feedrank explain`: where rows are from, and how a feed's reasons are shown."""
