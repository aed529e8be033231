"""All phases side by side, from the records of a run."""
