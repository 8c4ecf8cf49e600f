"""Listing L4: the loop never clears the gradients, so that each step repeats all earlier ones.

Cure: `optimizer.zero_grad()` before `loss.backward()`, or `Trainer`, which does it.
"""

import minidl as torch
from minidl import nn, optim

model = nn.Sequential(nn.Embedding(100, 16), nn.Flatten(), nn.Linear(64, 2))
optimizer = optim.AdamW(model.parameters(), lr=1e-5)
sentences = [(torch.tensor([[1, 2, 3, 4]]), torch.tensor([1])), (torch.tensor([[5, 6, 7, 8]]), torch.tensor([0]))]
for words, label in sentences:
    loss = nn.CrossEntropyLoss()(model(words), label)
    loss.backward()
    optimizer.step()
