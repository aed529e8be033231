// A cluster of two blocks, whose size is fixed when it is compiled.
#include "portable.cuh"

__global__ void __cluster_dims__(2, 1, 1) clustered(float* y) { y[blockIdx.x] = float(blockIdx.x); }
