"""How right and how fast a phase is."""
