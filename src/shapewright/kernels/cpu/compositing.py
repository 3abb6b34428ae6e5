"""Numba kernels of volume rendering over packed samples.

Ray ``r`` owns the samples ``[starts[r], starts[r + 1])``. Every function loops over rays ``[lo, hi)``.
"""

from __future__ import annotations

import numpy as np
from numba import njit

_OPTIONS = {"nogil": True, "cache": True, "error_model": "numpy", "fastmath": {"contract"}}


@njit(**_OPTIONS)
def neus_alpha(sdf, normals, directions, starts, steps, sharpness, alpha, alpha_by_sdf, alpha_by_slope, lo, hi):
    """Write the opacity of each sample and its derivatives by the SDF and by the slope ``normal . direction``.

    With ``p, q = sdf -+ min(slope, 0) step / 2`` and the logistic ``S``:
    ``alpha = (S(sharpness p) - S(sharpness q)) / (S(sharpness p) + 1e-5)`` (NeuS, arXiv:2106.10689, eq. 13).

    Arrays and numbers:
        sdf: ``[n]``; normals: ``[3, n]`` gradients of the SDF; directions: ``[rays, 3]`` unit vectors.
    """
    one = sdf.dtype.type(1.0)
    half = sdf.dtype.type(0.5)
    zero = sdf.dtype.type(0.0)
    eps = sdf.dtype.type(1e-5)
    for ray in range(lo, hi):
        dx, dy, dz = directions[ray, 0], directions[ray, 1], directions[ray, 2]
        for i in range(starts[ray], starts[ray + 1]):
            slope = normals[0, i] * dx + normals[1, i] * dy + normals[2, i] * dz
            reach = half * steps[i]
            drop = min(slope, zero) * reach
            p = one / (one + np.exp(-sharpness * (sdf[i] - drop)))
            q = one / (one + np.exp(-sharpness * (sdf[i] + drop)))
            share = one / (p + eps)
            alpha[i] = (p - q) * share
            by_p = (q + eps) * share * share * sharpness * p * (one - p)
            by_q = share * sharpness * q * (one - q)
            alpha_by_sdf[i] = by_p - by_q
            alpha_by_slope[i] = -(by_p + by_q) * reach if slope < zero else zero


@njit(**_OPTIONS)
def composite(alpha, starts, weights, before, rest, lo, hi):
    """Write the weights ``T_i alpha_i``, the transmittance ``T_i`` before each sample and the rest after the ray."""
    one = alpha.dtype.type(1.0)
    for ray in range(lo, hi):
        t = one
        for i in range(starts[ray], starts[ray + 1]):
            before[i] = t
            weights[i] = t * alpha[i]
            t *= one - alpha[i]
        rest[ray] = t


@njit(**_OPTIONS)
def composite_backward(alpha, starts, before, grad_weights, grad_rest, grad_alpha, lo, hi):
    """Write the gradient by alpha.

    It is ``T_i (g_i - S_{i+1})``, ``S_i = alpha_i g_i + (1 - alpha_i) S_{i+1}``, ``S_end`` the gradient of the rest.
    """
    one = alpha.dtype.type(1.0)
    for ray in range(lo, hi):
        suffix = grad_rest[ray]
        for i in range(starts[ray + 1] - 1, starts[ray] - 1, -1):
            grad_alpha[i] = before[i] * (grad_weights[i] - suffix)
            suffix = alpha[i] * grad_weights[i] + (one - alpha[i]) * suffix


@njit(**_OPTIONS)
def keep_heavy(weights, least, slots):
    """Number the samples whose weight exceeds ``least`` in ``slots`` (others get -1) and return how many there are."""
    count = 0
    for i in range(weights.shape[0]):
        if weights[i] > least:
            slots[i] = count
            count += 1
        else:
            slots[i] = -1
    return count


@njit(**_OPTIONS)
def see(
    sdf, normals, directions, starts, steps, sharpness, least,
    alpha, alpha_by_sdf, alpha_by_slope, weights, before, rest, slots,
):  # fmt: skip
    """Run ``neus_alpha``, ``composite`` and ``keep_heavy`` on all rays; return the number of samples kept."""
    rays = directions.shape[0]
    neus_alpha(sdf, normals, directions, starts, steps, sharpness, alpha, alpha_by_sdf, alpha_by_slope, 0, rays)
    composite(alpha, starts, weights, before, rest, 0, rays)
    return keep_heavy(weights, least, slots)


@njit(**_OPTIONS)
def ray_sum(weights, values, slots, starts, sums, lo, hi):
    """Write ``sums[r, c] = sum_i weights[i] values[c, slots[i]]`` over the kept samples of each ray."""
    channels = values.shape[0]
    for ray in range(lo, hi):
        for c in range(channels):
            sums[ray, c] = 0.0
        for i in range(starts[ray], starts[ray + 1]):
            s = slots[i]
            if s >= 0:
                for c in range(channels):
                    sums[ray, c] += weights[i] * values[c, s]


@njit(**_OPTIONS)
def ray_sum_backward(weights, values, slots, starts, grad_sums, grad_weights, grad_values, lo, hi):
    """Write ``grad_values = weights * grad_sums`` and ``grad_weights = <values, grad_sums>`` (0 where not kept)."""
    channels = values.shape[0]
    zero = weights.dtype.type(0.0)
    for ray in range(lo, hi):
        for i in range(starts[ray], starts[ray + 1]):
            s = slots[i]
            total = zero
            if s >= 0:
                for c in range(channels):
                    total += values[c, s] * grad_sums[ray, c]
                    grad_values[c, s] = weights[i] * grad_sums[ray, c]
            grad_weights[i] = total


@njit(inline="always")
def _view_polynomials(x, y, z, out, row, s):
    third = out.dtype.type(1.0 / 3.0)
    out[row, s] = x
    out[row + 1, s] = y
    out[row + 2, s] = z
    out[row + 3, s] = x * y
    out[row + 4, s] = y * z
    out[row + 5, s] = z * x
    out[row + 6, s] = x * x - third
    out[row + 7, s] = y * y - third
    out[row + 8, s] = z * z - third


@njit(**_OPTIONS)
def radiance_input(outputs, normals, directions, starts, slots, inputs, lo, hi):
    """Write the radiance network's input of the kept samples: features, unit normal, nine polynomials of the direction.

    Arrays and numbers:
        outputs: ``[1 + features, n]`` of the SDF network; its first row, the SDF, is left out.
        inputs: ``[features + 3 + 9, kept]``, written.
    """
    features = outputs.shape[0] - 1
    tiny = outputs.dtype.type(1e-6)
    one = outputs.dtype.type(1.0)
    for ray in range(lo, hi):
        for i in range(starts[ray], starts[ray + 1]):
            s = slots[i]
            if s < 0:
                continue
            for c in range(features):
                inputs[c, s] = outputs[c + 1, i]
            nx, ny, nz = normals[0, i], normals[1, i], normals[2, i]
            share = one / (np.sqrt(nx * nx + ny * ny + nz * nz) + tiny)
            inputs[features, s] = nx * share
            inputs[features + 1, s] = ny * share
            inputs[features + 2, s] = nz * share
            _view_polynomials(directions[ray, 0], directions[ray, 1], directions[ray, 2], inputs, features + 3, s)


@njit(**_OPTIONS)
def radiance_input_backward(grad_inputs, inputs, normals, slots, grad_outputs, grad_normals, lo, hi):
    """Add the gradient of the radiance input to the features and the normals of the samples ``[lo, hi)``."""
    features = grad_outputs.shape[0] - 1
    tiny = inputs.dtype.type(1e-6)
    one = inputs.dtype.type(1.0)
    for i in range(lo, hi):
        s = slots[i]
        if s < 0:
            continue
        for c in range(features):
            grad_outputs[c + 1, i] += grad_inputs[c, s]
        nx, ny, nz = normals[0, i], normals[1, i], normals[2, i]
        length = np.sqrt(nx * nx + ny * ny + nz * nz)
        share = one / (length + tiny)
        # d(n / (|n| + tiny)) projected on the tangent plane; along n it vanishes up to tiny.
        ux, uy, uz = inputs[features, s], inputs[features + 1, s], inputs[features + 2, s]
        gx, gy, gz = grad_inputs[features, s], grad_inputs[features + 1, s], grad_inputs[features + 2, s]
        along = (gx * ux + gy * uy + gz * uz) * (length + tiny) / max(length, tiny)
        grad_normals[0, i] += share * (gx - along * ux)
        grad_normals[1, i] += share * (gy - along * uy)
        grad_normals[2, i] += share * (gz - along * uz)


@njit(**_OPTIONS)
def pixel_loss(colors, rest, background, target, coverage, gains, views, settings, grad_colors, grad_rest, grad_gains):
    """Return the summed photometric and mask losses of rays and write their gradients.

    The prediction is ``gain * color + rest * background``. A channel whose photo is clipped at white costs only where
    the prediction is darker. The error is Charbonnier's ``sqrt(e^2 + s^2) - s``; the mask term is the cross-entropy of
    the opacity ``1 - rest``, clamped to ``[1e-3, 1 - 1e-3]``, with the mask.

    Arrays and numbers:
        colors: ``[rays, 3]`` composited on black; rest: ``[rays]``; background: ``[rays, 3]``.
        target: ``[rays, 3]`` photo in [0, 1], not premultiplied; coverage: ``[rays]`` alpha of the mask in [0, 1].
        gains: ``[views, 3]`` exposure of each picture; views: ``[rays]``.
        settings: ``(charbonnier s, clipped from, photometric weight per ray, mask weight per ray)``.
    """
    softness, clipped, photo_weight, mask_weight = settings
    one = colors.dtype.type(1.0)
    zero = colors.dtype.type(0.0)
    low = colors.dtype.type(1e-3)
    photo_total = 0.0
    mask_total = 0.0
    for ray in range(colors.shape[0]):
        view = views[ray]
        cover = coverage[ray]
        by_rest = zero
        for c in range(3):
            gain = gains[view, c]
            wanted = cover * target[ray, c] + (one - cover) * background[ray, c]
            error = gain * colors[ray, c] + rest[ray] * background[ray, c] - wanted
            if target[ray, c] >= clipped and cover == one and error > zero:
                error = zero
            size = np.sqrt(error * error + softness * softness)
            photo_total += size - softness
            slope = photo_weight * error / size if size > zero else zero
            grad_colors[ray, c] = slope * gain
            grad_gains[view, c] += slope * colors[ray, c]
            by_rest += slope * background[ray, c]
        opacity = min(max(one - rest[ray], low), one - low)
        mask_total -= cover * np.log(opacity) + (one - cover) * np.log(one - opacity)
        if low < one - rest[ray] < one - low:
            by_rest += mask_weight * (cover / opacity - (one - cover) / (one - opacity))
        grad_rest[ray] = by_rest
    return photo_total, mask_total


@njit(**_OPTIONS)
def add_alpha_gradient(grad_alpha, alpha_by_sdf, alpha_by_slope, directions, starts, grad_sdf, grad_normals, lo, hi):
    """Add the gradient of the opacities to that of the SDF values and, along the ray, of the normals."""
    for ray in range(lo, hi):
        for i in range(starts[ray], starts[ray + 1]):
            grad_sdf[i] += grad_alpha[i] * alpha_by_sdf[i]
            by_slope = grad_alpha[i] * alpha_by_slope[i]
            for axis in range(3):
                grad_normals[axis, i] += by_slope * directions[ray, axis]
