"""The cells of RNN, LSTM and GRU for LANES hidden units of one row, forward and backward. Read lanes.py first.

Forward, `product` is W_hh h, made before by the matrix loop; the gates of a unit lie `pitch` numbers apart there and
`width` (H) apart in the arrays. Backward, `dh` is what reaches h from the steps after this one, and `sums` collects
the gradients of the biases row by row. What each formula means is said in `../reference/recurrent.py`.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from minidl.kernels.cpu.lanes import for_lanes, sigmoid, tanh

_POINTER = types.CPointer(types.float32)


def _signature(pointers: int, numbers: int, flags: int = 0):
    return types.void(*[_POINTER] * pointers, *[types.intp] * numbers, *[types.boolean] * flags)


def _multiples(builder, distance, count):
    return [builder.mul(distance, ir.Constant(distance.type, k)) for k in range(count)]


@intrinsic
def rnn_forward(typing_context, inputs, product, h, states, count, relu):
    """h = states = tanh(inputs + product), or its positive part."""

    def generate(context, builder, signature, arguments):
        inputs, product, h, states, count, relu = arguments

        def body(at):
            z = at.load(inputs) + at.load(product)
            y = z.chosen(relu, z.below(0, 0, z), tanh(z))
            at.store(y, h)
            at.store(y, states)

        for_lanes(builder, count, body)
        return context.get_dummy_value()

    return _signature(4, 1, 1), generate


@intrinsic
def rnn_backward(typing_context, g, dh, states, left, grad, sums, count, relu):
    """left = grad = (g + dh) times the slope at `states`; added to sums."""

    def generate(context, builder, signature, arguments):
        g, dh, states, left, grad, sums, count, relu = arguments

        def body(at):
            total, y = at.load(g) + at.load(dh), at.load(states)
            value = y.chosen(relu, (-y).below(0, total, 0), total * (1 - y * y))
            at.store(value, left)
            at.store(value, grad)
            at.store(at.load(sums) + value, sums)

        for_lanes(builder, count, body)
        return context.get_dummy_value()

    return _signature(6, 1, 1), generate


@intrinsic
def lstm_forward(typing_context, gates, product, h, c, states, cells, width, pitch, count):
    """The activated gates, c = cells, and h = states."""

    def generate(context, builder, signature, arguments):
        gates, product, h, c, states, cells, width, pitch, count = arguments
        places, apart = _multiples(builder, width, 4), _multiples(builder, pitch, 4)

        def body(at):
            i, f, new, o = [activation(at.load(gates, place) + at.load(product, distance)) for activation, place,
                            distance in zip((sigmoid, sigmoid, tanh, sigmoid), places, apart)]
            for gate, place in zip((i, f, new, o), places):
                at.store(gate, gates, place)
            cell = f * at.load(c) + i * new
            state = o * tanh(cell)
            for value, *targets in ((cell, c, cells), (state, h, states)):
                for target in targets:
                    at.store(value, target)

        for_lanes(builder, count, body)
        return context.get_dummy_value()

    return _signature(6, 3), generate


@intrinsic
def lstm_backward(typing_context, g, dh, dc, gates, cells, before, left, grad, sums, width, count):
    """left = grad = the gradient of the four gates, added to sums; dc moves on to the step before."""

    def generate(context, builder, signature, arguments):
        g, dh, dc, gates, cells, before, left, grad, sums, width, count = arguments
        places = _multiples(builder, width, 4)

        def body(at):
            i, f, new, o = [at.load(gates, place) for place in places]
            bent, total = tanh(at.load(cells)), at.load(g) + at.load(dh)
            dcell = at.load(dc) + total * o * (1 - bent * bent)
            at.store(dcell * f, dc)
            values = (dcell * new * (i * (1 - i)), dcell * at.load(before) * (f * (1 - f)),
                      dcell * i * (1 - new * new), total * bent * (o * (1 - o)))
            for value, place in zip(values, places):
                at.store(value, left, place)
                at.store(value, grad, place)
                at.store(at.load(sums, place) + value, sums, place)

        for_lanes(builder, count, body)
        return context.get_dummy_value()

    return _signature(9, 2), generate


@intrinsic
def gru_forward(typing_context, gates, product, bias_hn, inner, h, states, width, pitch, count):
    """The activated gates, inner, and h = states."""

    def generate(context, builder, signature, arguments):
        gates, product, bias_hn, inner, h, states, width, pitch, count = arguments
        places, apart = _multiples(builder, width, 3), _multiples(builder, pitch, 3)

        def body(at):
            r, z = [sigmoid(at.load(gates, place) + at.load(product, distance))
                    for place, distance in zip(places[:2], apart[:2])]
            inside = at.load(product, apart[2]) + at.load(bias_hn)
            new = tanh(at.load(gates, places[2]) + r * inside)
            at.store(inside, inner)
            for gate, place in zip((r, z, new), places):
                at.store(gate, gates, place)
            state = new + z * (at.load(h) - new)
            at.store(state, h)
            at.store(state, states)

        for_lanes(builder, count, body)
        return context.get_dummy_value()

    return _signature(6, 3), generate


@intrinsic
def gru_backward(typing_context, g, dh, gates, inner, before, left, grad, grad_inner, sums, width, count):
    """grad of r, z and n, grad_inner, both added to sums (r, z, n, inner); left = those of r, z and inner.

    dh becomes what reaches h before by the gate z alone.
    """

    def generate(context, builder, signature, arguments):
        g, dh, gates, inner, before, left, grad, grad_inner, sums, width, count = arguments
        places = _multiples(builder, width, 4)

        def body(at):
            r, z, new = [at.load(gates, place) for place in places[:3]]
            total = at.load(g) + at.load(dh)
            dnew = total * (1 - z) * (1 - new * new)
            dinner = dnew * r
            dreset = dnew * at.load(inner) * (r * (1 - r))
            dkeep = total * (at.load(before) - new) * (z * (1 - z))
            at.store(total * z, dh)
            at.store(dinner, grad_inner)
            for value, place in zip((dreset, dkeep, dinner), places):
                at.store(value, left, place)
            for value, place in zip((dreset, dkeep, dnew), places):
                at.store(value, grad, place)
            for value, place in zip((dreset, dkeep, dnew, dinner), places):
                at.store(at.load(sums, place) + value, sums, place)

        for_lanes(builder, count, body)
        return context.get_dummy_value()

    return _signature(9, 2), generate
