"""Kernels in your own training loop: nearest_templates chooses templates, cosine_distance is the loss.

    python examples/kernels_in_training.py --steps 100

A small network learns to restore features from a corrupted copy and the nearest other sample's features. The
features are made up here; put those of your own extractor in their place. The same calls take CUDA tensors.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor, nn

import thfr_ext


def make_features(
    count: int, channels: int, edge: int, seed: int
) -> Tensor:  # fp32 [count,channels,edge,edge]
    """Three kinds of product, each with its own features and some variation."""
    generator = torch.Generator().manual_seed(seed)
    kinds = torch.randn(3, channels, edge, edge, generator=generator)
    noise = 0.3 * torch.randn(count, channels, edge, edge, generator=generator)
    return kinds[torch.arange(count) % 3] + noise


class Restorer(nn.Module):
    """Restores features from a corrupted input, compressed to a quarter of the channels, and a template."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = nn.Sequential(
            nn.Conv2d(channels, channels // 4, 1), nn.GELU(), nn.Conv2d(channels // 4, channels, 1)
        )

    def forward(
        self,
        corrupted: Tensor,  # [B,C,H,W]
        template: Tensor,  # [B,C,H,W]
    ) -> Tensor:  # [B,C,H,W]
        return template + self.squeeze(corrupted)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    device = torch.device(arguments.device)

    features = make_features(60, channels=64, edge=16, seed=0).to(device)
    keys = nn.functional.adaptive_avg_pool2d(features, 4).flatten(
        1
    )  # [60,1024]: retrieval keys that keep the layout
    model = Restorer(64).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for step in range(arguments.steps):
        batch = torch.randint(len(features), (8,), device=device)
        # The most similar sample but the query itself: `exclude` is the bank row that each query may not get.
        _, nearest = thfr_ext.nearest_templates(keys[batch], keys, k=1, metric="cosine", exclude=batch)
        target, template = features[batch], features[nearest[:, 0]]
        corrupted = target * (torch.rand(8, 1, 16, 16, device=device) > 0.2)
        restored = model(corrupted, template)
        loss = thfr_ext.cosine_distance(
            target, restored
        ).mean()  # [8,16,16] -> scalar; the gradient is a kernel, too
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 20 == 0 or step == arguments.steps - 1:
            print(f"step {step:4} loss {loss.item():.4f}")

    # Anomaly maps of the trained network: a defect at one corner of the first sample.
    query = features[:1].clone()
    query[:, :, 4:7, 4:7] = torch.randn(1, 64, 3, 3, device=device)
    query_key = nn.functional.adaptive_avg_pool2d(query, 4).flatten(1)
    _, nearest = thfr_ext.nearest_templates(query_key, keys[1:], k=1, metric="cosine")
    with torch.inference_mode():
        restored = model(query, features[1:][nearest[:, 0]])
    anomaly_map, score = thfr_ext.anomaly_map([query], [restored], size=(128, 128), sigma=4.0)
    row, column = divmod(int(anomaly_map[0].argmax()), 128)
    print(f"score {score.item():.4f}, highest at row {row}, column {column} (the defect: 32 to 56)")


if __name__ == "__main__":
    main()
