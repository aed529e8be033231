"""From the encoder's features to classes."""
