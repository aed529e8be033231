"""Chapters: their sources, their parameters, what they depend on, and their execution."""
