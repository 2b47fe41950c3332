"""The structural similarity index of Wang et al., "Image Quality Assessment" (2004), of images."""

import torch
import torch.nn.functional as F

WINDOW = 7
K1, K2 = 0.01, 0.03


def similarity(images: torch.Tensor, others: torch.Tensor, data_range: float) -> torch.Tensor:
    """The mean index [rows] over all whole windows of two stacks of images [rows, height, width].

    Windows are uniform squares of 7 pixels and variances those of a sample, as in fastMRI.

    Args:
      images, others: the images to compare; the index is symmetric in them.
      data_range: largest less smallest value that a pixel can have.
    """

    def mean(x: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(x[:, None], WINDOW, stride=1)[:, 0]

    sample = WINDOW**2 / (WINDOW**2 - 1)
    mean_1, mean_2 = mean(images), mean(others)
    variance_1 = sample * (mean(images**2) - mean_1**2)
    variance_2 = sample * (mean(others**2) - mean_2**2)
    covariance = sample * (mean(images * others) - mean_1 * mean_2)
    c_1, c_2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    luminance = (2 * mean_1 * mean_2 + c_1) / (mean_1**2 + mean_2**2 + c_1)
    structure = (2 * covariance + c_2) / (variance_1 + variance_2 + c_2)
    # Rounding may lead beyond the bounds.
    return (luminance * structure).mean((1, 2)).clamp(-1, 1)
