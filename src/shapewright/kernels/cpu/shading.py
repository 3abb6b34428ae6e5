"""Numba kernel of plain pictures: colours of vertices, darkened face by face, averaged over the samples of a pixel.

Screens are as in ``kernels.cpu.rasterizer``, and so are the ranges of images.
"""

from __future__ import annotations

from numba import njit

from shapewright.kernels.cpu.rasterizer import OPTIONS


@njit(**OPTIONS)
def shade(screen, faces, colors, brightness, face_id, supersample, picture, coverage, lo, hi):
    """Add up colours and coverage of the samples of each pixel in the images ``[lo, hi)``.

    Arrays and numbers:
        colors: ``[vertices, 3]``; brightness: ``[faces]``, their product is shown; both float64.
        face_id: ``[images, n, n]``, what the rasteriser wrote.
        supersample: samples along each side of a pixel.
        picture: ``[images, n / supersample, n / supersample, 3]``, filled with 0; coverage: the same without colours.
    """
    n = face_id.shape[1]
    for image in range(lo, hi):
        points = screen[image]
        for i in range(n):
            y = i + 0.5
            row = i // supersample
            for j in range(n):
                f = face_id[image, i, j]
                if f < 0:
                    continue
                a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
                x, column = j + 0.5, j // supersample
                ax, ay, bx, by = points[a, 0] - x, points[a, 1] - y, points[b, 0] - x, points[b, 1] - y
                cx, cy = points[c, 0] - x, points[c, 1] - y
                wa = (bx * cy - by * cx) / points[a, 2]
                wb = (cx * ay - cy * ax) / points[b, 2]
                wc = (ax * by - ay * bx) / points[c, 2]
                scale = brightness[f] / (wa + wb + wc)
                for k in range(3):
                    mixed = wa * colors[a, k] + wb * colors[b, k] + wc * colors[c, k]
                    picture[image, row, column, k] += scale * mixed
                coverage[image, row, column] += 1.0
