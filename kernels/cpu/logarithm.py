"""The natural logarithm as a polynomial that LLVM computes for a whole vector register at a time. Read exponential.py.

log(x) = n ln 2 + log(m) with x = 2^n m and m between sqrt(1/2) and sqrt(2), both read off the bits of x; and
log(m) = 2 atanh(s) with s = (m - 1) / (m + 1), which lies within 0.172 of zero. Errors are at most three units in the
last place.
"""

import math

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from minidl.kernels.cpu.runtime import compiled

F = np.float32
ZERO, ONE, TWO = F(0), F(1), F(2)
INFINITY, NOTHING = F(np.inf), F(np.nan)
LN2_HIGH = F(0.693359375)  # nine bits, so that its products with whole numbers are exact
LN2_LOW = F(math.log(2) - 0.693359375)
SMALLEST = F(2.0**-126)  # what is smaller has fewer digits, and another form
LIFT, LIFTED = F(2.0**24), F(24)
NEAR = F(-0.25)  # from where on 1 + u is close enough to 1 for the polynomial

ROOT, MANTISSA, EXPONENT = 0x3F3504F3, 0x7FFFFF, 23  # the bits of sqrt(1/2), and where a float32 keeps what

# atanh(s) / s - 1 in s^2 over s^2, highest power first
A0, A1, A2, A3 = F(1 / 9), F(1 / 7), F(1 / 5), F(1 / 3)


def _from_bits(part: str):
    @intrinsic
    def take(typing_context, number):
        """m (or n, as a float) of number = 2^n m, for a positive number with all of its digits."""

        def generate(context, builder, signature, arguments):
            word = ir.IntType(32)
            bits = builder.sub(builder.bitcast(arguments[0], word), ir.Constant(word, ROOT))
            if part == "exponent":
                return builder.sitofp(builder.ashr(bits, ir.Constant(word, EXPONENT)), ir.FloatType())
            mantissa = builder.add(builder.and_(bits, ir.Constant(word, MANTISSA)), ir.Constant(word, ROOT))
            return builder.bitcast(mantissa, ir.FloatType())

        return types.float32(types.float32), generate

    return take


mantissa_of, exponent_of = _from_bits("mantissa"), _from_bits("exponent")


@compiled(forceinline=True)
def twice_atanh(s):
    q = s * s
    return TWO * s + TWO * s * q * (((A0 * q + A1) * q + A2) * q + A3)


@compiled(forceinline=True)
def log(x):
    small = x < SMALLEST
    lifted = x * LIFT if small else x
    m = mantissa_of(lifted)
    n = exponent_of(lifted) - (LIFTED if small else ZERO)
    y = n * LN2_HIGH + (n * LN2_LOW + twice_atanh((m - ONE) / (m + ONE)))
    y = y if x < INFINITY else x  # infinity, and nan
    y = NOTHING if x < ZERO else y
    return -INFINITY if x == ZERO else y


@compiled(forceinline=True)
def log_of_one_less(p):
    """log(1 - p), exact near p = 0, for p from 0 to 1."""
    u = -p
    near = twice_atanh(u / (TWO + u))
    far = log(ONE + u)
    return near if u > NEAR else far
