"""Arithmetic whose order is written down to the instruction, for loops that Numba compiles.

A loop that adds up one sum can't be vectorised as it stands: lanes add in another order. With
fast-math a compiler may choose the order, and chooses anew with each compilation, so that a cached
copy may give other bits than a new one. Here the order is chosen once, in LLVM's instructions: the
same bits on any processor.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 8
"""Partial sums of each sum. Nine times eight fit into the registers of AVX2 and of NEON."""


@intrinsic
def fma(typing_context: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c, rounded once. All three are floats of one kind."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fma(*arguments)

    return a(a, a, a), generate


@intrinsic
def nine_sums(typing_context: Any, above: Any, level: Any, below: Any, g: Any, count: Any) -> Any:
    """The sums over p of g[p] * row[p+v], for the three rows and v = 0, 1, 2.

    Lane l of a sum adds the products at p = l, l + LANES, l + 2 LANES, ...; then the upper half of
    the lanes is added to the lower half until one is left.

    Args:
        typing_context: Numba's.
        above: contiguous array of at least `count * LANES + 2` floats.
        level: likewise.
        below: likewise.
        g: contiguous array of at least `count * LANES` floats.
        count: how many times LANES products each sum has; may be 0.
    """
    result = types.UniTuple(g.dtype, 9)
    signature = result(above, level, below, g, types.intp)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        scalar, index = context.get_value_type(g.dtype), context.get_value_type(types.intp)
        vector = ir.VectorType(scalar, LANES)
        vector_fma = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(vector, [vector] * 3),
            f"llvm.fma.v{LANES}f{g.dtype.bitwidth}",
        )
        *rows, gradient = (
            context.make_array(kind)(context, builder, value).data
            for kind, value in zip(signature.args[:4], arguments[:4], strict=True)
        )
        before = builder.block
        head, body, after = (builder.append_basic_block(name) for name in ("head", "body", "after"))
        builder.branch(head)

        builder.position_at_end(head)
        step = builder.phi(index)
        step.add_incoming(index(0), before)
        sums = [builder.phi(vector) for _ in range(9)]
        for total in sums:
            total.add_incoming(vector([scalar(0.0)] * LANES), before)
        builder.cbranch(builder.icmp_signed("<", step, arguments[4]), body, after)

        builder.position_at_end(body)
        first = builder.mul(step, index(LANES))

        def lanes(row: Any, shift: int) -> Any:
            place = builder.gep(row, [builder.add(first, index(shift))])
            place = builder.bitcast(place, vector.as_pointer())
            return builder.load(place, align=g.dtype.bitwidth // 8)

        factor = lanes(gradient, 0)
        for tap, total in enumerate(sums):
            operands = (factor, lanes(rows[tap // 3], tap % 3), total)
            total.add_incoming(builder.call(vector_fma, operands), body)
        step.add_incoming(builder.add(step, index(1)), body)
        builder.branch(head)

        builder.position_at_end(after)
        totals = [_halved(builder, total) for total in sums]
        return context.make_tuple(builder, result, totals)

    return signature, generate


def _halved(builder: Any, lanes: Any) -> Any:
    """One lane from many: the upper half is added to the lower one until one is left."""
    width = LANES
    while width > 1:
        width //= 2
        low, high = (
            builder.shuffle_vector(
                lanes,
                lanes,
                ir.Constant(ir.VectorType(ir.IntType(32), width), [*range(a, a + width)]),
            )
            for a in (0, width)
        )
        lanes = builder.fadd(low, high)
    return builder.extract_element(lanes, ir.IntType(32)(0))
