"""A graph network: edges, nodes and whole graphs, updated in turn by small networks.

The updates are those of Battaglia et al., "Relational inductive biases, deep learning, and graph
networks" (arXiv:1806.01261, algorithm 1), in dense batches: what an edge takes from its ends and
what a node gets from its edges are products with incidence matrices, the same on every device.
"""

import torch
import torch.nn.functional as F
from torch import nn

from workloads.standin import replicas


class Update(nn.Module):
    """A linear layer, a layer norm, ReLU and dropout."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: torch.Tensor, dropout_rate: float) -> torch.Tensor:
        return replicas.dropout(F.relu(self.norm(self.linear(x))), dropout_rate, self.training)


class GraphNetworkStep(nn.Module):
    """One round of messages: new edges, then new nodes, then new globals.

    Args:
      nodes, edges, graphs: sizes of the vectors that come in.
      width: size of all vectors that go out.
    """

    def __init__(self, nodes: int, edges: int, graphs: int, width: int) -> None:
        super().__init__()
        self.edges = Update(edges + 2 * nodes + graphs, width)
        self.nodes = Update(nodes + 2 * width + graphs, width)
        self.graphs = Update(2 * width + graphs, width)

    def forward(
        self,
        nodes: torch.Tensor,
        edges: torch.Tensor,
        graphs: torch.Tensor,
        ends: tuple[torch.Tensor, torch.Tensor],
        present: torch.Tensor,
        dropout_rate: float,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The new nodes, edges and graphs, zero where they are padding.

        Args:
          nodes, edges, graphs: vectors [batch, nodes, size], [batch, edges, size], [batch, size].
          ends: 1 where an edge leaves a node and where it enters one, twice [batch, edges, nodes];
            an edge without ends is padding.
          present: 1 for nodes that are no padding [batch, nodes, 1].
          dropout_rate: of the new vectors.
        """
        leaves, enters = ends
        shared = graphs[:, None].expand(-1, edges.shape[1], -1)
        seen = torch.cat([edges, leaves @ nodes, enters @ nodes, shared], -1)
        edges = self.edges(seen, dropout_rate) * enters.sum(-1, keepdim=True)
        sent, received = leaves.transpose(1, 2) @ edges, enters.transpose(1, 2) @ edges
        shared = graphs[:, None].expand(-1, nodes.shape[1], -1)
        seen = torch.cat([nodes, sent, received, shared], -1)
        nodes = self.nodes(seen, dropout_rate) * present
        seen = torch.cat([nodes.sum(1), edges.sum(1), graphs], -1)
        return nodes, edges, self.graphs(seen, dropout_rate)
