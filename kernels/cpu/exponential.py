"""e^x as a polynomial that LLVM computes for a whole vector register at a time. Activations, softmax and losses use it.

e^x = 2^n e^r, with n the whole number nearest to x / ln 2 and r = x - n ln 2, which lies within ln 2 / 2 of zero;
there a polynomial of degree 6 is as good as float32. 2^n is made by writing n into the exponent's bits.
Read `activation.py` or `softmax.py` next.
"""

import math

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from minidl.kernels.cpu.runtime import compiled

F = np.float32
ZERO, ONE = F(0), F(1)
PER_LN2 = F(1 / math.log(2))
LN2_HIGH = F(0.693359375)  # nine bits, so that its products with whole numbers are exact
LN2_LOW = F(math.log(2) - 0.693359375)
SMALLEST = F(-87.33)  # e to it is nearly 2^-126, the smallest number with all of its digits
ROUNDER = F(1.5 * 2**23 + 127)  # adding it rounds to a whole number n, and leaves n + 127 in the lowest bits

# (e^r - 1 - r) / r^2, highest power first
E0, E1, E2, E3, E4 = F(0.00139508072), F(0.00836907312), F(0.0416662011), F(0.166665173), F(0.5)


@intrinsic
def shifted_bits(typing_context, number):
    """The bits of a float32, moved up by 23: from where a large number keeps its units to where the exponent is."""

    def generate(context, builder, signature, arguments):
        word = ir.IntType(32)
        bits = builder.shl(builder.bitcast(arguments[0], word), ir.Constant(word, 23))
        return builder.bitcast(bits, ir.FloatType())

    return types.float32(types.float32), generate


@compiled(forceinline=True)
def parts(x):
    """2^n, and e^r - 1, of e^x = 2^n e^r; -87.33 stands for all x below it, and nan stays nan."""
    bounded = SMALLEST if x < SMALLEST else x
    rounded = bounded * PER_LN2 + ROUNDER
    n = rounded - ROUNDER
    r = bounded - n * LN2_HIGH - n * LN2_LOW
    return shifted_bits(rounded), r + r * r * ((((E0 * r + E1) * r + E2) * r + E3) * r + E4)


@compiled(forceinline=True)
def exp(x):
    """e^x for x up to 88, to 2 units in the last place; what is smaller than 2^-126 counts as 0."""
    power, e = parts(x)
    value = power * e + power
    return ZERO if x < SMALLEST else value


@compiled(forceinline=True)
def exp_less_one(x):
    """e^x - 1 for x up to 0, exact near 0."""
    power, e = parts(x)
    return power * e + (power - ONE)
