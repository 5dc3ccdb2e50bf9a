"""Trains a small torch.nn.Transformer to sort digits, and stores its weights in float16: golden/sorter.npz.

Run with torch installed, for about a minute:  python tests/golden/make_sorter.py
"""

import math
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).parent
START, END, VOCABULARY = 10, 11, 12
WIDTH, HEADS, LAYERS, HIDDEN, LONGEST = 32, 4, 1, 64, 12
STEPS, BATCH = 2000, 128


class Sorter(torch.nn.Module):
    """Digits in, the same digits in order out; END ends both, and pads."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(VOCABULARY, WIDTH)
        self.transformer = torch.nn.Transformer(
            WIDTH, HEADS, LAYERS, LAYERS, HIDDEN, dropout=0.0, batch_first=True, norm_first=True
        )
        self.head = torch.nn.Linear(WIDTH, VOCABULARY)
        self.positions = encoding(LONGEST + 2)

    def forward(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        padding = ends_before(source)
        causal = torch.ones(target.shape[1], target.shape[1], dtype=torch.bool).triu(1)
        states = self.transformer(
            self.embed(source),
            self.embed(target),
            tgt_mask=causal,
            src_key_padding_mask=padding,
            memory_key_padding_mask=padding,
        )
        return self.head(states)

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        return self.embedding(ids) + self.positions[: ids.shape[1]]


def encoding(length: int) -> torch.Tensor:
    angles = torch.arange(length)[:, None] * 10000.0 ** (-torch.arange(0, WIDTH, 2) / WIDTH)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).reshape(length, WIDTH)


def ends_before(ids: torch.Tensor) -> torch.Tensor:
    """True from behind the first END on."""
    return (ids == END).cumsum(1) - (ids == END).long() > 0


def batch(generator: torch.Generator, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Sequences of 1 to LONGEST digits, each followed by END, and the same in order."""
    digits = torch.randint(0, 10, (rows, LONGEST + 1), generator=generator)
    lengths = torch.randint(1, LONGEST + 1, (rows, 1), generator=generator)
    source = torch.where(torch.arange(LONGEST + 1) < lengths, digits, END)
    return source, source.sort(dim=1).values


def train(model: Sorter, generator: torch.Generator) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(step / 200, 0.5 * (1 + math.cos(math.pi * step / STEPS)) + 1e-3)
    )
    for _ in range(STEPS):
        source, wanted = batch(generator, BATCH)
        logits = model(source, shifted(wanted))
        shown = ~ends_before(wanted)
        loss = torch.nn.functional.cross_entropy(logits[shown], wanted[shown])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()


def shifted(target: torch.Tensor) -> torch.Tensor:
    return torch.cat([torch.full((len(target), 1), START), target[:, :-1]], dim=1)


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)  # more only wait for one another on so little
    generator = torch.Generator().manual_seed(1)
    model = Sorter()
    train(model, generator)
    stored = {name: value.numpy().astype(np.float16) for name, value in model.state_dict().items()}
    model.load_state_dict({name: torch.from_numpy(value.astype(np.float32)) for name, value in stored.items()})
    with torch.no_grad():
        source, wanted = batch(generator, 10000)
        right = (model.eval()(source, shifted(wanted)).argmax(-1) == wanted) | ends_before(wanted)
    share = right.all(dim=1).float().mean().item()
    if share < 0.999:
        raise RuntimeError(f"only {share:.2%} of 10000 sequences come out in order")
    np.savez_compressed(HERE / "sorter.npz", **stored)


if __name__ == "__main__":
    main()
