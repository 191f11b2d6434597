"""PSNR and SSIM: golden values on real and synthetic frames, scikit-image, bad pairs."""

from __future__ import annotations

import functools
import hashlib
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from phonoscope.errors import FrameRateMismatch, LengthMismatch, SizeMismatch, TooShort
from phonoscope.media import read_frames
from phonoscope.metrics.image import (
    decibels,
    frame_mse,
    paired_frames,
    psnr,
    ssim,
    ssim_uniform7,
    ssim_zeropad,
    structural_similarity,
)
from phonoscope.types import Clip, Frames
from phonoscope.views import frames

SSIM = {"gauss11_valid": ssim, "gauss11_zeropad": ssim_zeropad, "uniform7": ssim_uniform7}


def film(pixels: Any, fps: float = 25.0) -> Frames:
    pixels = np.asarray(pixels, np.uint8)
    return Frames(pixels if pixels.ndim == 4 else pixels[None], fps, fps)


def noisy(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


@functools.lru_cache(maxsize=2)
def decode(path: Path) -> np.ndarray:
    return read_frames(Clip(str(path))).pixels


def jpeg30(frame: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(frame).save(file, format="JPEG", quality=30)
    return np.asarray(Image.open(file).convert("RGB"))


def half_bilinear(frame: np.ndarray) -> np.ndarray:
    height, width = frame.shape[:2]
    small = Image.fromarray(frame).resize((width // 2, height // 2), Image.Resampling.BILINEAR)
    return np.asarray(small.resize((width, height), Image.Resampling.BILINEAR))


def noise10(pixels: np.ndarray) -> np.ndarray:
    g = np.random.default_rng(20230331)
    changed = (np.rint(f + g.normal(0.0, 10.0, f.shape)).clip(0, 255) for f in pixels)
    return np.stack(list(changed)).astype(np.uint8)


def degrade(pixels: np.ndarray, how: str) -> np.ndarray:
    if how == "noise10":
        return noise10(pixels)
    change = {"jpeg30": jpeg30, "half_bilinear": half_bilinear}[how]
    return np.stack([change(frame) for frame in pixels])


def synthetic(name: str) -> np.ndarray:
    kind, size = re.fullmatch(r"([\w+]+)\((\d+,\d+),3\)", name).groups()
    height, width = (int(n) for n in size.split(","))
    i, j, c = np.ogrid[:height, :width, :3]
    ramp = 7 * i + 13 * j + 29 * c
    gradient = np.broadcast_to((64 + i + 10 * c).clip(0, 255), (height, width, 3))
    g = np.random.default_rng(7)
    first, second = (g.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(2))
    images = {
        "zeros": np.zeros((height, width, 3)),
        "ones": np.full((height, width, 3), 255),
        "ramp_a": ramp % 256,
        "ramp_b": (ramp + (i * j) % 17) % 256,
        "gradient": gradient,
        "gradient+8": (gradient + 8).clip(0, 255),
        "rng7_first": first,
        "rng7_second": second,
    }
    return images[kind].astype(np.uint8)[None]


def pixels_of(name: str, data: Path) -> np.ndarray:
    """Return what a golden case names: a file or synthetic image, a part of it, a degradation."""
    name, _, how = name.partition("|degrade:")
    if name.startswith("synthetic:"):
        return synthetic(name.removeprefix("synthetic:"))
    file, part = re.fullmatch(r"data/([^\[]+)(?:\[([\d:]+)\])?", name).groups()
    pixels = decode(data / file)
    if how:
        pixels = degraded(data / file, how)
    if part is None:
        return pixels
    start, _, stop = part.partition(":")
    return pixels[int(start) : int(stop or int(start) + 1)]


@functools.lru_cache(maxsize=1)
def degraded(path: Path, how: str) -> np.ndarray:
    return degrade(decode(path), how)


def measure(case: dict[str, Any], data: Path) -> float:
    g, r = (film(pixels_of(case[side], data)) for side in ("generated", "reference"))
    check_digests(case["note"], g, r)
    if case["metric"] == "ssim":
        return SSIM[case["variant"]](g, r).value
    record = psnr(g, r)
    return record.info["pooled_psnr"] if case["variant"] == "pooled_mse" else record.value


def check_digests(note: str, g: Frames, r: Frames) -> None:
    for side, clip in (("generated", g), ("reference", r)):
        for digest in re.findall(rf"sha256 of raw.*{side} (\w+)", note):
            assert hashlib.sha256(clip.pixels.tobytes()).hexdigest().startswith(digest)


SPECIAL = ("fault_uint8_wrap", "status", "gauss11_valid_grey255", "uniform7_grey255")


CLIPS = ("bbaf2n", "brbk7n", "lbax4n", "lbbc2a", "lrwp9a", "lwbsza", "pwij3p", "sbia1a")


def golden(parity: Any) -> list[dict[str, Any]]:
    cases = [c for c in parity("talking_face")["cases"] if c["metric"] in ("psnr", "ssim")]
    return [c for c in cases if c["variant"] not in SPECIAL]


def test_every_golden_case_belongs_to_a_test(parity: Any) -> None:
    names = [case["reference"] for case in golden(parity)]
    assert len(names) == 78 + 138
    assert all(sum(about in name for about in (*CLIPS, "synthetic")) == 1 for name in names)


@pytest.mark.parametrize("about", [*CLIPS, "synthetic"])
def test_golden_values(about: str, parity: Any, shared_data: Path) -> None:
    cases = [case for case in golden(parity) if about in case["reference"]]
    assert cases
    wrong = []
    for case in cases:
        value = measure(case, shared_data)
        if not abs(value - case["value"]) <= case["abs_tol"]:
            wrong.append((value, case))
    assert wrong == []


def special(parity: Any, metric: str, variant: str) -> dict[str, Any]:
    cases = parity("talking_face")["cases"]
    (case,) = [c for c in cases if (c["metric"], c["variant"]) == (metric, variant)]
    return case


def test_golden_fault_is_not_ours(parity: Any, shared_data: Path) -> None:
    case = special(parity, "psnr", "fault_uint8_wrap")
    g, r = (pixels_of(case[side], shared_data) for side in ("generated", "reference"))
    wrapped = np.mean((g - r) ** 2) / 255**2  # both the difference and its square wrap
    assert 10 * np.log10(1 / wrapped) == pytest.approx(case["value"], abs=case["abs_tol"])
    assert psnr(film(g), film(r)).value == pytest.approx(28.3027, abs=0.01)


def test_golden_failure(parity: Any, shared_data: Path) -> None:
    case = special(parity, "psnr", "status")
    g, r = (film(pixels_of(case[side], shared_data)) for side in ("generated", "reference"))
    with pytest.raises(SizeMismatch, match=r"224x224.*360x288") as caught:
        psnr(g, r)
    assert case["value"] == f"Failure:{caught.value.code}"


@pytest.mark.parametrize("variant", ["gauss11_valid", "uniform7"])
def test_golden_photograph(variant: Any, parity: Any) -> None:
    from skimage import data

    case, camera = special(parity, "ssim", f"{variant}_grey255"), data.camera()
    noise = 20.0 * np.random.RandomState(5).randn(512, 512)
    other = np.clip(camera + noise, 0, 255).astype(np.uint8)
    value = structural_similarity(other, camera, variant=variant)
    assert value == pytest.approx(case["value"], abs=case["abs_tol"])


@pytest.mark.parametrize("shape", [(11, 11, 3), (40, 57, 3), (64, 48, 3)])
def test_agrees_with_scikit_image(shape: tuple[int, ...]) -> None:
    from skimage.metrics import structural_similarity as theirs

    x = noisy(shape)
    y = (x.astype(int) + noisy(shape, 1) // 4).clip(0, 255).astype(np.uint8)
    options = {"data_range": 1, "channel_axis": 2}
    gauss = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    a, b = x / 255, y / 255
    expected = theirs(a, b, **gauss, **options)
    assert structural_similarity(x, y) == pytest.approx(expected, abs=1e-12)
    expected = theirs(a, b, **options)
    assert structural_similarity(x, y, variant="uniform7") == pytest.approx(expected, abs=1e-12)


def test_zero_padding_is_convolution_of_the_padded_image() -> None:
    x, y = noisy((20, 24, 3)), noisy((20, 24, 3), 1)
    padded = (np.pad(image, ((5, 5), (5, 5), (0, 0))) for image in (x, y))
    inside = structural_similarity(*padded)
    assert structural_similarity(x, y, variant="gauss11_zeropad") == pytest.approx(inside)
    assert structural_similarity(x, y) != pytest.approx(inside, abs=1e-3)


@pytest.mark.parametrize("metric", [psnr, *SSIM.values()], ids=["psnr", *SSIM])
def test_identical_is_ideal_and_views_are_native(metric: Any) -> None:
    clip = film(noisy((3, 20, 30, 3)))
    record = metric(clip, clip)
    assert record.value == pytest.approx(metric.ideal, abs=1e-12)
    assert record.info["n_frames"] == 3
    assert metric.views == {"generated": frames(), "reference": frames()}


def test_psnr_is_the_mean_over_frames_and_pooled_beside() -> None:
    r = np.zeros((2, 12, 12, 3), np.uint8)
    g = r.copy()
    g[0] += 255
    g[1] += 51
    record = psnr(film(g), film(r))
    first, second = 0.0, 20 * np.log10(5)
    assert record.value == pytest.approx((first + second) / 2)
    assert record.info["pooled_mse"] == pytest.approx((1 + 0.04) / 2)
    assert record.info["pooled_psnr"] == pytest.approx(decibels(0.52))
    assert record.flags == () and record.info["identical_frames"] == 0


def test_identical_frames_are_counted_and_capped() -> None:
    r = noisy((3, 12, 12, 3))
    g = r.copy()
    g[2, 0, 0, 0] ^= 1
    record = psnr(film(g), film(r))
    assert record.flags == ("identical_frames",) and record.info["identical_frames"] == 2
    assert 60 < record.value < 100
    assert decibels(0.0) == 100 and decibels(1e-12) == 100


def test_differences_do_not_wrap() -> None:
    dark, light = np.zeros((12, 12, 3), np.uint8), np.full((12, 12, 3), 255, np.uint8)
    assert frame_mse(dark, light) == frame_mse(light, dark) == 1


@pytest.mark.parametrize("metric", [psnr, *SSIM.values()], ids=["psnr", *SSIM])
def test_bad_pairs_are_named(metric: Any) -> None:
    ten = film(noisy((10, 16, 20, 3)))
    for bad, error, text in [
        (film(noisy((10, 16, 22, 3))), SizeMismatch, "22x16.*20x16"),
        (film(noisy((10, 16, 20, 3)), 30.0), FrameRateMismatch, "30 fps"),
        (film(noisy((16, 16, 20, 3))), LengthMismatch, "16 frames, reference 10"),
        (film(noisy((0, 16, 20, 3))), LengthMismatch, "0 frames"),
        (Frames(noisy((10, 16, 20, 4)), 25, 25), ValueError, "uint8"),
        (Frames(np.zeros((10, 16, 20, 3)), 25, 25), ValueError, "uint8"),
    ]:
        with pytest.raises(error, match=text):
            metric(bad, ten)
    with pytest.raises(TooShort):
        metric(film(noisy((0, 16, 20, 3))), film(noisy((2, 16, 20, 3))))


def test_small_frames_have_no_ssim() -> None:
    clip = film(noisy((2, 10, 64, 3)))
    for metric in SSIM.values():
        with pytest.raises(SizeMismatch, match="64x10, needs 11"):
            metric(clip, clip)
    assert psnr(clip, clip).value == 100


def test_lengths_may_differ_by_five_frames() -> None:
    long, short = film(noisy((10, 12, 12, 3))), film(noisy((10, 12, 12, 3))[:5])
    for pair in [(long, short), (short, long)]:
        g, r, flags, info = paired_frames(*pair)
        assert len(g) == len(r) == 5 and flags == ("trimmed",)
        assert {info["n_generated"], info["n_reference"]} == {10, 5}
        assert psnr(*pair).flags == ("trimmed", "identical_frames")
    assert paired_frames(long, long)[2] == ()


def test_rates_compared_are_those_of_the_files() -> None:
    pixels = noisy((3, 12, 12, 3))
    resampled, native = Frames(pixels, 25.0, 29.97), Frames(pixels, 25.0, 25.0)
    with pytest.raises(FrameRateMismatch, match=r"29\.97"):
        psnr(resampled, native)
    assert psnr(Frames(pixels, 25.0, 25.009), native).value == 100
