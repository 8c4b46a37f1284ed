"""float32 exp and log1p as polynomials, which the compiler makes vector code of; libm's are called number by number."""

from __future__ import annotations

import numpy as np

from models.kernels.compiling import inlined

_F = np.float32
_LOG2_E, _LN2_HIGH, _LN2_LOW = _F(1.4426950408889634), _F(0.693359375), _F(-2.12194440e-4)
_HALF, _ONE, _TWO = _F(0.5), _F(1), _F(2)
_LEAST, _MOST = _F(-87.0), _F(88.0)  # e^x stays a normal float32
_E2, _E3, _E4, _E5, _E6, _E7 = (_F(1 / n) for n in (2, 6, 24, 120, 720, 5040))  # 1 / n!
_A3, _A5, _A7, _A9, _A11, _A13 = (_F(1 / n) for n in (3, 5, 7, 9, 11, 13))
_EXPONENT_BIAS, _MANTISSA_BITS = np.int32(127), np.int32(23)


@inlined
def exp(x):
    """e^x to 2e-7 relative, x cut to [-87, 88]: 2^n times a Taylor polynomial on |r| <= ln 2 / 2."""
    x = min(max(x, _LEAST), _MOST)
    n = np.floor(x * _LOG2_E + _HALF)
    r = (x - n * _LN2_HIGH) - n * _LN2_LOW
    p = _ONE + r * (_ONE + r * (_E2 + r * (_E3 + r * (_E4 + r * (_E5 + r * (_E6 + r * _E7))))))
    return p * np.int32((np.int32(n) + _EXPONENT_BIAS) << _MANTISSA_BITS).view(np.float32)


@inlined
def log1p_unit(y):
    """log(1 + y) to 1e-7 for 0 <= y <= 1: the series of 2 artanh(y / (2 + y))."""
    z = y / (_TWO + y)
    s = z * z
    return _TWO * z * (_ONE + s * (_A3 + s * (_A5 + s * (_A7 + s * (_A9 + s * (_A11 + s * _A13))))))


@inlined
def softplus(x):
    """log(1 + e^x) without overflow."""
    return max(x, _F(0)) + log1p_unit(exp(-abs(x)))


@inlined
def sigmoid(x):
    """1 / (1 + e^-x) without overflow."""
    small = exp(-abs(x))
    share = _ONE / (_ONE + small)
    return share if x >= 0 else small * share
