"""Elementary functions of one number, without branches or calls, so that compilers take several numbers at a time.

Plain Python on NumPy scalars, which compiled kernels inline. Good to 2 units in the last place over all numbers,
with ±∞, NaN and subnormal results. Polynomials are Taylor's, on ranges where few terms suffice. Names end in 32 or 64
for the dtype.
"""

from __future__ import annotations

from math import factorial

from numpy import float32, float64, inf, int32, int64, nan

__all__ = [
    "add_any_order",
    "copysign32",
    "copysign64",
    "exp32",
    "exp64",
    "expm1_32",
    "expm1_64",
    "log1p_32",
    "log1p_64",
    "log32",
    "log64",
    "maximum",
    "minimum",
    "multiply_any_order",
    "tanh32",
    "tanh64",
]

ONE32, TWO32, HALF32, INF32, NAN32 = float32(1), float32(2), float32(0.5), float32(inf), float32(nan)

# ln 2 = HIGH + LOW, where HIGH times an exponent is exact. Adding ROUND rounds to an integer, in the lowest bits.
HIGH32, LOW32, PER_LN2_32 = float32(0.693115234375), float32(3.1946184945309415e-05), float32(1.4426950408889634)
HIGH64, LOW64, PER_LN2_64 = 0.6931471803691238, 1.9082149292705877e-10, 1.4426950408889634
ROUND32, ROUND64 = float32(1.5 * 2**23), 1.5 * 2**52
ROUND_BITS32, ROUND_BITS64 = int32(ROUND32.view(int32)), int64(float64(ROUND64).view(int64))

# (e^r − 1 − r)/r² = 1/2! + r/3! + …
A2, A3, A4, A5, A6, A7 = (float32(1 / factorial(n)) for n in range(2, 8))
B2, B3, B4, B5, B6, B7, B8, B9, B10, B11, B12, B13 = (1 / factorial(n) for n in range(2, 14))
# ln((1 + s)/(1 − s)) = 2s + s·(2z/3 + 2z²/5 + …),  z = s²
C3, C5, C7, C9 = (float32(2 / n) for n in range(3, 10, 2))
D3, D5, D7, D9, D11, D13, D15, D17, D19, D21 = (2 / n for n in range(3, 22, 2))
T0, T1, T2, T3, T4 = float32(315), float32(14), float32(945), float32(420), float32(15)  # of tanh
SQRT_HALF32, SQRT_HALF64 = int32(0x3F3504F3), int64(0x3FE6A09E667F3BCD)  # bits of √½
SIGN32, SIGN64, REST32, REST64 = int32(-(2**31)), int64(-(2**63)), int32(2**31 - 1), int64(2**63 - 1)
TINY32, TINY64 = float32(2.0**-126), 2.0**-1022  # smaller ones have fewer bits


def add_any_order(a, b):
    """a + b in a sum whose order the compiler may choose: several partial sums side by side."""
    return a + b


def multiply_any_order(a, b):
    """a·b in a product whose order the compiler may choose."""
    return a * b


def maximum(a, b):
    """The larger; NaN where one is."""
    return a if a >= b or a != a else b


def minimum(a, b):
    """The smaller; NaN where one is."""
    return a if a <= b or a != a else b


def copysign32(a, b):
    """|a| with the sign of b."""
    return int32((float32(a).view(int32) & REST32) | (float32(b).view(int32) & SIGN32)).view(float32)


def copysign64(a, b):
    """|a| with the sign of b."""
    return int64((float64(a).view(int64) & REST64) | (float64(b).view(int64) & SIGN64)).view(float64)


def power_of_two32(k):
    """2^k for −126 ≤ k ≤ 127."""
    return int32(int32(k + int32(127)) << int32(23)).view(float32)


def power_of_two64(k):
    """2^k for −1022 ≤ k ≤ 1023."""
    return int64(int64(k + int64(1023)) << int64(52)).view(float64)


def exp_rest32(r):
    """e^r − 1 for |r| ≤ ln(2)/2."""
    return r + r * r * (A2 + r * (A3 + r * (A4 + r * (A5 + r * (A6 + r * A7)))))


def exp_rest64(r):
    """e^r − 1 for |r| ≤ ln(2)/2."""
    high = B8 + r * (B9 + r * (B10 + r * (B11 + r * (B12 + r * B13))))
    return r + r * r * (B2 + r * (B3 + r * (B4 + r * (B5 + r * (B6 + r * (B7 + r * high))))))


def exp32(x):
    """e^x = 2^k·e^r,  r = x − k·ln 2.   2^k in two factors, of which the second alone may overflow or round.

    What is 0 is chosen, not computed: products below the normal range take a hundred times as long.
    """
    y = float32(0) if x < float32(-104) else x
    y = float32(100) if y > float32(100) else y
    rounded = y * PER_LN2_32 + ROUND32
    k, whole = int32(float32(rounded).view(int32) - ROUND_BITS32), rounded - ROUND32
    p = ONE32 + exp_rest32((y - whole * HIGH32) - whole * LOW32)
    half = int32(k >> int32(1))
    result = p * power_of_two32(half) * power_of_two32(int32(k - half))
    return float32(0) if x < float32(-104) else result


def exp64(x):
    """As exp32."""
    y = 0.0 if x < -746.0 else x
    y = 720.0 if y > 720.0 else y
    rounded = float64(y * PER_LN2_64 + ROUND64)
    k, whole = int64(float64(rounded).view(int64) - ROUND_BITS64), rounded - ROUND64
    p = 1.0 + exp_rest64((y - whole * HIGH64) - whole * LOW64)
    half = int64(k >> int64(1))
    result = p * power_of_two64(half) * power_of_two64(int64(k - half))
    return 0.0 if x < -746.0 else result


def expm1_32(x):
    """e^x − 1 = 2^k·(e^r − 1) + (2^k − 1), halved so that 2^k does not overflow before the result does."""
    y = float32(-30) if x < float32(-30) else x
    y = float32(100) if y > float32(100) else y
    rounded = y * PER_LN2_32 + ROUND32
    k, whole = int32(float32(rounded).view(int32) - ROUND_BITS32), rounded - ROUND32
    p = exp_rest32((y - whole * HIGH32) - whole * LOW32)
    k = int32(128) if k > int32(128) else k
    scale = power_of_two32(int32(k - int32(1)))
    result = (scale * p + (scale - HALF32)) * TWO32
    result = INF32 if x > float32(89) else result
    return result if x == x and k != int32(0) else (p if x == x and x != float32(0) else x)


def expm1_64(x):
    """As expm1_32."""
    y = -50.0 if x < -50.0 else x
    y = 720.0 if y > 720.0 else y
    rounded = float64(y * PER_LN2_64 + ROUND64)
    k, whole = int64(float64(rounded).view(int64) - ROUND_BITS64), rounded - ROUND64
    p = exp_rest64((y - whole * HIGH64) - whole * LOW64)
    k = int64(1024) if k > int64(1024) else k
    scale = power_of_two64(int64(k - int64(1)))
    result = (scale * p + (scale - 0.5)) * 2.0
    result = inf if x > 710.0 else result
    return result if x == x and k != int64(0) else (p if x == x and x != 0.0 else x)


def log32(x):
    """ln x = k·ln 2 + ln(1 + f),  √½ ≤ 1 + f < √2.   ln(1 + f) = f − (f²/2 − s·(f²/2 + R)),  s = f/(2 + f)."""
    small = x < TINY32
    y = x * float32(2.0**25) if small else x
    bits = int32(float32(y).view(int32) - SQRT_HALF32)
    k = int32(bits >> int32(23))
    f = int32(int32(bits & int32(0x7FFFFF)) + SQRT_HALF32).view(float32) - ONE32
    whole = float32(k) - (float32(25) if small else float32(0))
    s = f / (TWO32 + f)
    z, square = s * s, HALF32 * f * f
    tail = z * (C3 + z * (C5 + z * (C7 + z * C9)))
    result = whole * HIGH32 - ((square - (s * (square + tail) + whole * LOW32)) - f)
    result = result if x < INF32 else x  # ∞ and NaN
    result = -INF32 if x == float32(0) else result
    return NAN32 if x < float32(0) else result


def log64(x):
    """As log32."""
    small = x < TINY64
    y = float64(x * 2.0**54 if small else x)
    bits = int64(float64(y).view(int64) - SQRT_HALF64)
    k = int64(bits >> int64(52))
    f = int64(int64(bits & int64(0xFFFFFFFFFFFFF)) + SQRT_HALF64).view(float64) - 1.0
    whole = float64(k) - (54.0 if small else 0.0)
    s = f / (2.0 + f)
    z, square = s * s, 0.5 * f * f
    high = z * (D11 + z * (D13 + z * (D15 + z * (D17 + z * (D19 + z * D21)))))
    tail = z * (D3 + z * (D5 + z * (D7 + z * (D9 + high))))
    result = whole * HIGH64 - ((square - (s * (square + tail) + whole * LOW64)) - f)
    result = result if x < inf else x
    result = -inf if x == 0.0 else result
    return nan if x < 0.0 else result


def log1p_32(x):
    """ln(1 + x) = ln u + (x − (u − 1))/u,  u = 1 + x rounded."""
    u = ONE32 + x
    result = log32(u) + (x - (u - ONE32)) / u
    result = result if x < INF32 and x != float32(0) else x  # −0 as well
    return -INF32 if x == -ONE32 else result


def log1p_64(x):
    """As log1p_32."""
    u = 1.0 + x
    result = log64(float64(u)) + (x - (u - 1.0)) / u
    result = result if x < inf and x != 0.0 else x
    return -inf if x == -1.0 else result


def tanh32(x):
    """1 − 2/(1 + e^(2|x|)) with the sign of x; below 0.55 x − x·z·N/D, z = x², a convergent of z/(1 + z/(3 + …))."""
    size = float32(abs(x))
    z = size * size
    far, top, bottom = ONE32 + exp32(TWO32 * size), z * (T0 + z * T1), T2 + z * (T3 + z * T4)
    near = size < float32(0.55)
    share = (top if near else TWO32) / (bottom if near else far)
    return copysign32((size if near else ONE32) - share * (size if near else ONE32), x) if x == x else x


def tanh64(x):
    """As tanh32."""
    size = float64(abs(x))
    z = size * size
    far = 1.0 + exp64(float64(2.0 * (20.0 if size > 20.0 else size)))
    top = z * (675675.0 + z * (45045.0 + z * (594.0 + z)))
    bottom = 2027025.0 + z * (945945.0 + z * (51975.0 + z * (630.0 + z)))
    near = size < 0.55
    share = (top if near else 2.0) / (bottom if near else far)
    return copysign64((size if near else 1.0) - share * (size if near else 1.0), x) if x == x else x
