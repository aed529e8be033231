from __future__ import annotations

import pytest

from ae_book.showing.faults import weight_gradient_with
from ae_core.devices.emulated import WARP_ORDERS
from ae_core.devices.kernels import DeviceError

ORDERS = [f"{order} order" for order in WARP_ORDERS]


def test_a_missing_barrier_shows_in_some_orders_and_a_wrong_stride_in_all():
    faults = {
        "barrier": ("__syncthreads();  // the tree adds", "//"),
        "stride": ("int stride = THREADS / 2", "int stride = blockIdx.x * blockIdx.y / 2"),
        "none": ("int stride = THREADS / 2", "int stride = THREADS / 2 "),
    }
    barrier, stride, none = weight_gradient_with(faults)
    assert barrier["planted fault"] == "barrier" and list(barrier)[1:] == ORDERS
    assert (barrier["forward order"], barrier["reverse order"]) == ("nan", "0")
    assert all(float(stride[order]) > 0.1 for order in ORDERS)
    assert all(none[order] == "0" for order in ORDERS)


def test_a_text_that_the_kernel_does_not_have_is_told():
    with pytest.raises(DeviceError, match=r"conv_batched\.cu: expected the text"):
        weight_gradient_with({"typo": ("__syncthread();", "//")})
