"""Shampoo for PyTorch: a drop-in `torch.optim.Optimizer`.

>>> import torch
>>> from submission.shampoo import Shampoo
>>> model = torch.nn.Linear(8, 4)
>>> optimizer = Shampoo(model.parameters(), lr=1e-3)
>>> loss = model(torch.ones(2, 8)).square().mean()
>>> loss.backward()
>>> optimizer.step()
>>> optimizer
Shampoo (
  group 0: ...
    param 0 [4, 8]: Shampoo, 1 x [4, 8]
    param 1 [4]: AdamW (vector)
  parameters: 32 by Shampoo, 4 by AdamW
  state on all ranks: 992 B; work: 7.4 kFLOP per step as modelled
)
"""

from ..plan.options import BlockingConfig
from .config import DistributedConfig, ShampooConfig, StateConfig
from .evaluation import evaluation
from .modules import parameter_groups
from .optimizer import Shampoo
from .presets import algoperf_winner, kl_shampoo, shampoo, soap

__all__ = [
    "BlockingConfig",
    "DistributedConfig",
    "Shampoo",
    "ShampooConfig",
    "StateConfig",
    "algoperf_winner",
    "evaluation",
    "kl_shampoo",
    "parameter_groups",
    "shampoo",
    "soap",
]
