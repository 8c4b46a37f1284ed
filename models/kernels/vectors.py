"""Short runs of numbers as single vectors, by LLVM's vector types.

numba leaves short loops of known length scalar (its SLP vectoriser is off).
head is any tuple of d numbers: the length of a tuple is known when a kernel is compiled, and any d will do. Tables are
2-D in C order.
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

_FLAGS = ("reassoc", "nsz", "contract")


def _vector(context, builder, table_type, table, row, column, d):  # noqa: ANN001, ANN202
    """(the address of table[row, column:column + d], the alignment of its numbers)."""
    array = context.make_array(table_type)(context, builder, table)
    strides = cgutils.unpack_tuple(builder, array.strides)
    number = context.get_data_type(table_type.dtype)
    size = ir.Constant(row.type, context.get_abi_sizeof(number))
    offset = builder.add(builder.mul(row, strides[0]), builder.mul(column, size))
    address = builder.add(builder.ptrtoint(array.data, offset.type), offset)
    return builder.inttoptr(address, ir.VectorType(number, d).as_pointer()), size.constant


@intrinsic
def dot(typing_context, x, i, a, y, j, b, head):  # noqa: ANN001, ANN201
    """x[i, a:a + d] . y[j, b:b + d]"""

    def generate(context, builder, signature, arguments):  # noqa: ANN001, ANN202
        left, align = _vector(context, builder, signature.args[0], *arguments[0:3], head.count)
        right, _ = _vector(context, builder, signature.args[3], *arguments[3:6], head.count)
        product = builder.fmul(builder.load(left, align=align), builder.load(right, align=align), flags=_FLAGS)
        number = product.type.element
        name = f"llvm.vector.reduce.fadd.v{head.count}{'f32' if isinstance(number, ir.FloatType) else 'f64'}"
        reduce = cgutils.get_or_insert_function(builder.module, ir.FunctionType(number, [number, product.type]), name)
        return builder.call(reduce, [ir.Constant(number, 0.0), product], fastmath=_FLAGS)

    return x.dtype(x, types.int64, types.int64, y, types.int64, types.int64, head), generate


@intrinsic
def add_scaled(typing_context, y, j, b, weight, x, i, a, head):  # noqa: ANN001, ANN201
    """y[j, b:b + d] += weight * x[i, a:a + d]"""

    def generate(context, builder, signature, arguments):  # noqa: ANN001, ANN202
        target, align = _vector(context, builder, signature.args[0], *arguments[0:3], head.count)
        source, _ = _vector(context, builder, signature.args[4], *arguments[4:7], head.count)
        values = builder.load(source, align=align)
        number, nothing = ir.IntType(32), ir.Constant(values.type, ir.Undefined)
        first = builder.insert_element(nothing, arguments[3], ir.Constant(number, 0))
        zeros = ir.Constant(ir.VectorType(number, head.count), [0] * head.count)
        scaled = builder.fmul(builder.shuffle_vector(first, first, zeros), values, flags=_FLAGS)
        total = builder.fadd(builder.load(target, align=align), scaled, flags=_FLAGS)
        builder.store(total, target, align=align)
        return context.get_dummy_value()

    return types.void(y, types.int64, types.int64, y.dtype, x, types.int64, types.int64, head), generate
