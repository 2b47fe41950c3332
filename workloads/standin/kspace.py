"""Images as an MRI scanner sees them: some columns of their centred Fourier transform."""

import numpy as np
import torch

CENTRE_SHARE = 0.08
ACCELERATION = 4
_AXES = (-2, -1)


def draw_masks(rows: int, columns: int, generator: np.random.Generator) -> torch.Tensor:
    """Masks of columns [rows, columns], 1 where a column is kept, as float32.

    As in fastMRI (Zbontar et al. 2018) the lowest frequencies are kept, 8 % of the columns, and of
    the others so many at random that a quarter of all remain on average.
    """
    centre = int(columns * CENTRE_SHARE)
    first = (columns - centre + 1) // 2
    share = (columns / ACCELERATION - centre) / (columns - centre)
    kept = generator.random((rows, columns)) < share
    kept[:, first : first + centre] = True
    return torch.from_numpy(kept.astype(np.float32))


def reconstruct(images: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Magnitudes of images [rows, side, side] whose lost columns of k-space are zero.

    The masks [rows, side] are those of `draw_masks`: their middle is the lowest frequency.
    """
    k_space = torch.fft.fftshift(torch.fft.fft2(images, norm="ortho"), dim=_AXES)
    k_space = torch.fft.ifftshift(k_space * masks[:, None, :], dim=_AXES)
    return torch.fft.ifft2(k_space, norm="ortho").abs()
