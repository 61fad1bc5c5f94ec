"""Candidates (7): a few hundred items per user, from small sources that each fail alone."""

from models.candidates.gather import FOR_YOU, SOURCE_NAMES, Candidates, Source, following, gather
from models.candidates.query import CandidateLimits, Query, SourceLimit, Users, draw_seeds

__all__ = [
    "FOR_YOU",
    "SOURCE_NAMES",
    "CandidateLimits",
    "Candidates",
    "Query",
    "Source",
    "SourceLimit",
    "Users",
    "draw_seeds",
    "following",
    "gather",
]
