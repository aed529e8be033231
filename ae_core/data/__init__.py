"""CIFAR-10: found, fetched, drawn as a stand-in, and read."""
