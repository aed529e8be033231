"""One CIFAR-10 convolutional autoencoder, from nested CPU loops to fast CUDA kernels."""

__version__ = "0.1.0"
