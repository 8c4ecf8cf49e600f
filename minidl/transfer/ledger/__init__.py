"""The ledger of a model: what each verb did to every tensor, with hashes. Read `ledger.py` first."""

from __future__ import annotations

from minidl.transfer.ledger.ledger import Ledger, ledger, ledger_of
from minidl.transfer.ledger.verify import FrozenChanged, Verification

__all__ = ["FrozenChanged", "Ledger", "Verification", "ledger", "ledger_of"]
