"""What chapters show: numbers, tables, figures, drawings, sources."""
