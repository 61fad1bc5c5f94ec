"""The peers: programs that do the compared work the way their own documentation shows."""
