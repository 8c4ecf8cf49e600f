"""Where the shape a network was declared with and the shape that arrives part: what a dense layer can say about it.

A dense layer behind flattened maps expects C * h * w numbers and is given C * H * W. From the two numbers, and from the
maps' shape where it is known, follows what is missing before it.
"""

from __future__ import annotations

from math import isqrt, prod

NUMBERS = {1: "one", 2: "two", 3: "three", 4: "four", 5: "five"}


def features_hint(shape: tuple[int, ...], expected: int) -> str:
    """The likely fix where x of `shape` (..., I) meets a weight with `expected` columns; '' if none is in sight."""
    for start in range(1, len(shape) - 1):
        if prod(shape[start:]) == expected:
            return f"; these are maps that were not flattened: x.flatten({start}), or nn.Flatten({start}) before it"
    if len(shape) == 1 and shape[0] != expected and expected == 1:
        return "; for N samples of one feature each give x[:, None]"
    given = shape[-1] if shape else 0
    if len(shape) == 2 and given and (steps := _halvings(given, expected)):
        many = NUMBERS.get(abs(steps), str(abs(steps)))
        pools = f"{many} 2x2 pool{'s' if abs(steps) > 1 else ''} (or stride 2)"
        return f": {pools} missing before it?" if steps > 0 else f": {pools} too many before it?"
    if len(shape) == 2 and shape[0] == expected and given != expected:
        return "; rows and columns seem to have changed places: samples come first, x.T"
    return ""


def _halvings(given: int, expected: int) -> int:
    """k where given = expected * 4^k for whole maps, else 0."""
    large, small = max(given, expected), min(given, expected)
    if small < 1 or large % small:
        return 0
    steps, rest = 0, large // small
    while rest > 1 and rest % 4 == 0:
        steps, rest = steps + 1, rest // 4
    return 0 if rest != 1 or small < 16 else steps if given > expected else -steps


def maps_hint(maps: tuple[int, ...], expected: int) -> str:
    """What flattened maps (C, H, W) would have had to be for `expected` numbers, and the fixes that always fit."""
    channels, height, width = maps
    given = prod(maps)
    seen = f" Flatten makes {given} of maps ({channels}, {height}, {width})"
    side = isqrt(expected // channels)
    if channels * side * side == expected and height == width:
        return (f"{seen}, {expected} would be ({channels}, {side}, {side}): change what stands before, or the layer to "
                f"Linear({given}, …), or put AdaptiveAvgPool2d({side}) before the flatten")
    return f"{seen}: change what stands before, or the layer to Linear({given}, …)"
