"""Connectionist temporal classification: losses per sequence, greedy decoding, edit distances.

Symbol 0 is the blank, and fills up targets. All frames of a sequence count: a model whose sequences
differ in length is certain of the blank in frames beyond the end, which changes no probability.
"""

import abc

import torch
import torch.nn.functional as F

from submission.algoperf_api import spec
from workloads.standin.base import StandinWorkload
from workloads.standin.batches import Batch

BLANK = 0


def frames_needed(targets: torch.Tensor) -> torch.Tensor:
    """The least number of frames of each target [rows, symbols], as integers [rows].

    A symbol that follows its like needs a blank between them.

    >>> frames_needed(torch.tensor([[5, 5, 6, 0], [7, 0, 0, 0]])).tolist()
    [4, 1]
    """
    repeats = (targets[:, 1:] == targets[:, :-1]) & (targets[:, 1:] != BLANK)
    return (targets != BLANK).sum(1) + repeats.sum(1)


def ctc_losses(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Minus the log-probability of each target, float32 [rows]; differentiable.

    Infinite where a target needs more frames than there are, because a loss of zero, as
    `zero_infinity` gives, would hide such rows.

    Args:
      logits: [rows, frames, symbols].
      targets: integers [rows, most symbols], filled up with blanks.
    """
    rows, frames, _ = logits.shape
    log_p = logits.float().log_softmax(-1).transpose(0, 1)
    lengths = torch.full((rows,), frames, dtype=torch.long, device=logits.device)
    return F.ctc_loss(
        log_p,
        targets.long(),
        lengths,
        (targets != BLANK).sum(1),
        blank=BLANK,
        reduction="none",
        zero_infinity=False,
    )


def greedy_decode(logits: torch.Tensor) -> torch.Tensor:
    """The likeliest symbol of every frame, repeats merged, then blanks removed.

    Takes logits [rows, frames, symbols]; gives integers [rows, frames], filled up with blanks.
    """
    best = logits.argmax(-1)
    previous = F.pad(best, (1, 0), value=BLANK)[:, :-1]
    kept = (best != BLANK) & (best != previous)
    # The last column takes what is dropped, and is dropped with it.
    places = torch.where(kept, kept.cumsum(1) - 1, best.shape[1])
    decoded = best.new_full((len(best), best.shape[1] + 1), BLANK)
    return decoded.scatter_(1, places, best)[:, :-1]


def edit_distances(decoded: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Levenshtein distances between rows of two tables filled up with blanks, integers [rows].

    >>> edit_distances(torch.tensor([[1, 2, 3, 0]]), torch.tensor([[1, 3, 3, 4]])).tolist()
    [2]
    """
    columns = torch.arange(decoded.shape[1] + 1, device=decoded.device)
    decoded_lengths = (decoded != BLANK).sum(1, keepdim=True)
    target_lengths = (targets != BLANK).sum(1)
    # distances[r, j]: between the first symbols of target r and the first j of those decoded.
    distances = columns.expand(len(decoded), -1)
    result = decoded_lengths[:, 0]
    for index in range(targets.shape[1]):
        substituted = distances[:, :-1] + (decoded != targets[:, index : index + 1])
        deleted = distances + 1
        best = torch.cat([deleted[:, :1], torch.minimum(substituted, deleted[:, 1:])], 1)
        # Insertions chain along the row: the least over k <= j of best[k] + (j - k).
        distances = (best - columns).cummin(1).values + columns
        final = distances.gather(1, decoded_lengths)[:, 0]
        result = torch.where(target_lengths == index + 1, final, result)
    return result


class CtcWorkload(StandinWorkload, abc.ABC):
    """A workload that reads frames and writes symbols; metrics wer and ctc_loss.

    As in the official speech workloads, `wer` is the number of edits between what greedy decoding
    gives and the target, and `ctc_loss` the loss, both per symbol of the targets.
    """

    loss_type = spec.LossType.CTC_LOSS

    def loss_fn(
        self,
        label_batch: torch.Tensor,
        logits_batch: torch.Tensor,
        mask_batch: torch.Tensor | None = None,
        label_smoothing: float = 0.0,
    ) -> dict[str, torch.Tensor]:
        """As of the base, but for `n_valid_examples`.

        That is the number of target symbols in rows of the mask [batch], at least 1: by it the
        official workloads divide in training, where their batches have no mask.
        """
        symbols = (label_batch != BLANK).sum(1)
        if mask_batch is not None:
            symbols = symbols * mask_batch
        result = super().loss_fn(label_batch, logits_batch, mask_batch, label_smoothing)
        valid = symbols.sum().to(result["summed"].dtype).clamp(min=1)
        return result | {"n_valid_examples": valid}

    def losses(
        self, label_batch: torch.Tensor, logits_batch: torch.Tensor, label_smoothing: float
    ) -> torch.Tensor:
        """CTC losses [batch] of targets [batch, symbols] against logits [batch, frames, symbols].

        Label smoothing has no meaning and is ignored, as in the official workloads.
        """
        del label_smoothing
        return ctc_losses(logits_batch, label_batch)

    def summed_metrics(self, logits: torch.Tensor, batch: Batch) -> dict[str, torch.Tensor]:
        targets, weights = batch["targets"], batch["weights"]
        errors = edit_distances(greedy_decode(logits), targets)
        loss = self.loss_fn(targets, logits, weights)
        symbols = (targets != BLANK).sum(1)
        return {
            "errors": (errors * weights).sum(),
            "loss": loss["summed"],
            "symbols": (symbols * weights).sum(),
        }

    def finish_metrics(self, means: dict[str, float]) -> dict[str, float]:
        symbols = means["symbols"]
        return {"wer": means["errors"] / symbols, "ctc_loss": means["loss"] / symbols}
