"""The clerk's tools: finding an order, and a refund, which is noted where the command is run."""

from pathlib import Path

LEDGER = Path("refunds.log")


def find_order(order: str) -> str:
    """Look an order up.

    Args:
        order: what the customer says about it
    """
    return "order 1001: a brass lamp, 40 paid, sent on Monday"


def refund(reason: str, amount: int = 40) -> str:
    """Pay money back.

    Args:
        reason: why, in a few words
        amount: how much
    """
    with LEDGER.open("a", encoding="utf-8") as ledger:
        ledger.write(f"{amount}\n")
    return f"refunded {amount}"
