"""Metrics that compare generated pictures with the reference, frame by frame.

Frame i goes with frame i, at the rate and size of the files, RGB, whole frame, in [0, 1], float64
(recipe ``img.rgb01``). Lengths may differ by 5 frames; both are cut to the shorter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from phonoscope.errors import FrameRateMismatch, LengthMismatch, SizeMismatch, TooShort
from phonoscope.plugins import Metric, metric
from phonoscope.types import Frames, Record, Scalar
from phonoscope.views import frames

Pixels = NDArray[np.uint8]
Image = NDArray[np.float64]
Variant = Literal["gauss11_valid", "gauss11_zeropad", "uniform7"]

LARGEST_RATE_DIFFERENCE = 0.01
LARGEST_DIFFERENCE = 5
LEAST_MSE = 1e-10
SMALLEST_SIDE = 11
SIGMA, RADIUS = 1.5, 5
K1, K2 = 0.01, 0.03


def paired_frames(
    generated: Frames, reference: Frames
) -> tuple[Pixels, Pixels, tuple[str, ...], dict[str, Scalar]]:
    """Return both clips' pixels cut to the shorter, flags and counts.

    Raises
    ------
    FrameRateMismatch
        If the files' rates differ by more than 0.01.
    SizeMismatch
        If widths or heights differ.
    LengthMismatch
        If the numbers of frames differ by more than 5.
    TooShort
        If either has no frame.
    """
    if abs(generated.native_fps - reference.native_fps) > LARGEST_RATE_DIFFERENCE:
        raise FrameRateMismatch(
            f"frame_rate: generated {generated.native_fps:g} fps, reference "
            f"{reference.native_fps:g}; encode both at one rate"
        )
    g, r = generated.pixels, reference.pixels
    _check_size(g, r)
    n_generated, n_reference = len(g), len(r)
    if abs(n_generated - n_reference) > LARGEST_DIFFERENCE:
        raise LengthMismatch(
            f"length_mismatch: generated {n_generated} frames, reference {n_reference}; "
            f"they may differ by {LARGEST_DIFFERENCE}"
        )
    n = min(n_generated, n_reference)
    if not n:
        raise TooShort("too_short: 0 frames, needs 1")
    flags = ("trimmed",) if n_generated != n_reference else ()
    info: dict[str, Scalar] = {
        "n_frames": n,
        "n_generated": n_generated,
        "n_reference": n_reference,
        "width": g.shape[2],
        "height": g.shape[1],
    }
    return g[:n], r[:n], flags, info


def _check_size(g: Pixels, r: Pixels) -> None:
    for pixels in (g, r):
        if pixels.ndim != 4 or pixels.shape[3] != 3 or pixels.dtype != np.uint8:
            raise ValueError(f"expected uint8 (T, H, W, 3), got {pixels.dtype} {pixels.shape}")
    if g.shape[1:] != r.shape[1:]:
        raise SizeMismatch(
            f"size_mismatch: generated {g.shape[2]}x{g.shape[1]}, reference "
            f"{r.shape[2]}x{r.shape[1]}; resize the generated clip"
        )


def frame_mse(generated: Pixels, reference: Pixels) -> float:
    """Return the mean squared difference of two images of one shape, in [0, 1]."""
    difference = generated.astype(np.int32) - reference
    return int(np.sum(difference * difference, dtype=np.int64)) / difference.size / 255**2


def decibels(mse: float) -> float:
    """Return the PSNR of a mean squared error, capped at 100 dB."""
    return float(10 * np.log10(1 / max(mse, LEAST_MSE)))


@metric(
    unit="dB",
    better="higher",
    label="PSNR",
    ideal=100.0,
    generated=frames(),
    reference=frames(),
)
def psnr(generated: Frames, reference: Frames) -> Record:
    """Peak signal-to-noise ratio in RGB, mean over frames, capped at 100 dB.

    Identical frames have 100 dB and are counted (flag `identical_frames`). ``pooled_psnr`` is that
    of the mean squared error over the whole clip: another number.
    """
    g, r, flags, info = paired_frames(generated, reference)
    errors = [frame_mse(a, b) for a, b in zip(g, r, strict=True)]
    n_identical = errors.count(0.0)
    pooled = float(np.mean(errors))
    info |= {
        "pooled_mse": pooled,
        "pooled_psnr": decibels(pooled),
        "identical_frames": n_identical,
    }
    same = ("identical_frames",) if n_identical else ()
    return Record(float(np.mean([decibels(error) for error in errors])), (*flags, *same), info)


def structural_similarity(
    x: NDArray[Any], y: NDArray[Any], *, variant: Variant = "gauss11_valid", data_range: float = 255
) -> float:
    """Return the mean structural similarity of two images.

    Parameters
    ----------
    x, y : ndarray, shape (height, width) or (height, width, channels)
        Sides of 11 or more.
    variant : {"gauss11_valid", "gauss11_zeropad", "uniform7"}
        11x11 Gaussian window of sigma 1.5 and population moments, without the 5-pixel border or
        with zeros around the image; or the 7x7 mean with sample covariance, without the border.
    data_range : float
        Largest minus smallest value that a pixel can have.

    Returns
    -------
    float
        -1 to 1, mean over pixels and channels.

    Notes
    -----
    Wang et al., IEEE TIP 2004. ``gauss11_valid`` and ``uniform7`` equal scikit-image.
    """
    blur, border, sample = _window(variant)
    planes = zip(_planes(x, data_range), _planes(y, data_range), strict=True)
    return float(np.mean([_similarity(a, b, blur, border, sample) for a, b in planes]))


def _planes(image: NDArray[Any], data_range: float) -> Image:
    """Return the channels as (channels, height, width), in [0, 1]: one plane fits a cache."""
    planes = image[None] if image.ndim == 2 else np.moveaxis(image, 2, 0)
    return np.ascontiguousarray(planes, np.float64) / data_range


def _similarity(
    x: Image, y: Image, blur: Callable[[Image], Image], border: int, sample: float
) -> float:
    inside = slice(border, -border or None)

    def local(image: Image) -> Image:
        return blur(image)[inside, inside]

    mean_x, mean_y = local(x), local(y)
    product, squares = mean_x * mean_y, mean_x**2 + mean_y**2
    covariance = sample * (local(x * y) - product)
    variances = sample * (local(x * x + y * y) - squares)
    c1, c2 = K1**2, K2**2
    similarity = (2 * product + c1) * (2 * covariance + c2)
    similarity /= (squares + c1) * (variances + c2)
    return float(similarity.mean())


def _window(variant: Variant) -> tuple[Callable[[Image], Image], int, float]:
    """Return the local mean, the border to leave out, and what corrects its variances."""
    from scipy import ndimage

    if variant == "uniform7":
        return lambda image: _over_both(ndimage.uniform_filter1d, image, size=7), 3, 49 / 48
    offsets = np.arange(-RADIUS, RADIUS + 1)
    weights = np.exp(-0.5 * (offsets / SIGMA) ** 2)
    options = {"weights": weights / weights.sum()}
    if variant == "gauss11_zeropad":
        padded = {**options, "mode": "constant"}
        return lambda image: _over_both(ndimage.correlate1d, image, **padded), 0, 1.0
    return lambda image: _over_both(ndimage.correlate1d, image, **options), RADIUS, 1.0


def _over_both(filter1d: Callable[..., Any], image: Image, **options: Any) -> Image:
    result: Image = filter1d(filter1d(image, axis=0, **options), axis=1, **options)
    return result


def _offer(name: str, variant: Variant, label: str, doc: str) -> Metric:
    """Register one variant; its name decides the window."""

    def measure(generated: Frames, reference: Frames) -> Record:
        g, r, flags, info = paired_frames(generated, reference)
        if min(g.shape[1:3]) < SMALLEST_SIDE:
            raise SizeMismatch(
                f"size_mismatch: {g.shape[2]}x{g.shape[1]}, needs {SMALLEST_SIDE} pixels a side"
            )
        values = [structural_similarity(a, b, variant=variant) for a, b in zip(g, r, strict=True)]
        return Record(float(np.mean(values)), flags, info)

    measure.__name__ = measure.__qualname__ = name
    measure.__doc__ = f"{doc}\n\nRGB in [0, 1], mean over pixels, channels and frames; -1 to 1."
    offer = metric(
        unit="-",
        better="higher",
        label=label,
        ideal=1.0,
        decimals=3,
        generated=frames(),
        reference=frames(),
    )
    return offer(measure)


ssim = _offer(
    "ssim",
    "gauss11_valid",
    "SSIM",
    "Structural similarity, 11x11 Gaussian window, without the 5-pixel border.",
)
ssim_zeropad = _offer(
    "ssim_zeropad",
    "gauss11_zeropad",
    "SSIM (zero padded)",
    "Structural similarity, 11x11 Gaussian window, zeros around the image (as Diff-AE has it).",
)
ssim_uniform7 = _offer(
    "ssim_uniform7",
    "uniform7",
    "SSIM (uniform 7x7)",
    "Structural similarity as scikit-image's defaults have it; only to explain other papers.",
)
