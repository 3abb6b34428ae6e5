"""Writing of moving pictures: GIF and WebP by Pillow, MP4 by PyAV where it is installed."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from shapewright.errors import UserError
from shapewright.io.files import atomic_write

VIDEO_SUFFIXES = (".gif", ".webp", ".mp4")

Frame = UInt8[np.ndarray, "h w 3"]


def write_video(path: Path, frames: Sequence[Frame], frames_per_second: float = 25.0) -> None:
    """Write frames in the format that the file's suffix names, looping where the format can, atomically.

    Args:
        path: ``.gif`` (256 colours), ``.webp`` or ``.mp4`` (H.264; needs the extra ``video``).
        frames: Pictures of one size.
        frames_per_second: Speed; GIF rounds the time of a frame to hundredths of a second.

    Raises:
        ValueError: if there is no frame, sizes differ or the speed is not positive.
        UserError: if the suffix is none of these, PyAV is missing for ``.mp4``, or the file cannot be written.
    """
    if not len(frames):
        raise ValueError("A video needs at least one frame.")
    if len({frame.shape for frame in frames}) > 1:
        raise ValueError(f"All frames must have one size, got {sorted({frame.shape for frame in frames})}.")
    if not frames_per_second > 0:
        raise ValueError(f"frames_per_second must be positive, got {frames_per_second}.")
    encoders = {".gif": _gif, ".webp": _webp, ".mp4": _mp4}
    encoder = encoders.get(path.suffix.lower())
    if encoder is None:
        raise UserError(
            f"{path}: videos cannot be written as '{path.suffix}'.", f"Choose one of {', '.join(VIDEO_SUFFIXES)}."
        )
    atomic_write(path, encoder(frames, frames_per_second))


def _gif(frames: Sequence[Frame], frames_per_second: float) -> bytes:
    """Return a GIF whose frames share one palette, so that still parts do not flicker."""
    palette = Image.fromarray(np.concatenate(list(frames[:: max(1, len(frames) // 8)]))).quantize(256)
    images = [Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG) for frame in frames]
    buffer = io.BytesIO()
    duration = round(100 / frames_per_second) * 10
    images[0].save(buffer, "GIF", save_all=True, append_images=images[1:], duration=max(20, duration), loop=0)
    return buffer.getvalue()


def _webp(frames: Sequence[Frame], frames_per_second: float) -> bytes:
    """Return an animated WebP."""
    images = [Image.fromarray(frame) for frame in frames]
    buffer = io.BytesIO()
    duration = round(1000 / frames_per_second)
    images[0].save(buffer, "WEBP", save_all=True, append_images=images[1:], duration=duration, loop=0, quality=85)
    return buffer.getvalue()


def _mp4(frames: Sequence[Frame], frames_per_second: float) -> bytes:
    """Return an H.264 video; odd sizes lose their last row or column, as the codec wants even ones."""
    try:
        import av
    except ImportError as error:
        raise UserError(
            "Writing .mp4 needs PyAV, which is not installed.",
            "Install it with 'pip install shapewright[video]', or write a .gif or .webp.",
        ) from error
    height, width = (side // 2 * 2 for side in frames[0].shape[:2])
    buffer = io.BytesIO()
    with av.open(buffer, mode="w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=round(frames_per_second))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": "18"}
        for frame in frames:
            cropped = np.ascontiguousarray(frame[:height, :width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(cropped, format="rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()
