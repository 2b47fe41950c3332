"""Trains with Lightning, on scikit-learn's images of digits, and resumes where it left off.

pip install lightning scikit-learn
python examples/lightning_trainer.py --epochs=4
python examples/lightning_trainer.py --epochs=8 --resume=lightning.ckpt
"""

import argparse

import lightning
import torch
from sklearn.datasets import load_digits
from stacked_shampoo import Shampoo
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset


class Digits(lightning.LightningModule):
    """Two layers, trained with Shampoo and a falling learning rate."""

    def __init__(self, lr: float) -> None:
        super().__init__()
        self.lr = lr
        self.layers = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        return nn.functional.cross_entropy(self.layers(batch[0]), batch[1])

    def validation_step(self, batch: list[Tensor], index: int) -> None:
        right = self.layers(batch[0]).argmax(1) == batch[1]
        self.log("accuracy", right.float().mean())

    def configure_optimizers(self) -> dict[str, object]:
        optimizer = Shampoo(self.parameters(), lr=self.lr, weight_decay=0.01)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.8)
        return {"optimizer": optimizer, "lr_scheduler": scheduler}


def main() -> None:
    parser = argparse.ArgumentParser(description="Trains on images of digits with Lightning.")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--save", default="lightning.ckpt", help="file of the checkpoint to write")
    parser.add_argument("--resume", help="file of a checkpoint to go on from")
    flags = parser.parse_args()
    if flags.epochs < 1:
        parser.error(f"--epochs={flags.epochs}: must be at least 1")

    lightning.seed_everything(0)
    loaded = load_digits()
    data = TensorDataset(torch.tensor(loaded.data).float() / 16, torch.tensor(loaded.target))
    train, test = torch.utils.data.random_split(data, [1500, 297])
    trainer = lightning.Trainer(
        max_epochs=flags.epochs,
        gradient_clip_val=1.0,
        accelerator="auto",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    model = Digits(flags.lr)
    loaders = DataLoader(train, batch_size=64, shuffle=True), DataLoader(test, batch_size=297)
    trainer.fit(model, *loaders, ckpt_path=flags.resume)
    trainer.save_checkpoint(flags.save)
    (metrics,) = trainer.validate(model, loaders[1], verbose=False)
    print(f"step {trainer.global_step}: test accuracy {metrics['accuracy']:.3f}")


if __name__ == "__main__":
    main()
