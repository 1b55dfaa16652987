"""The demo."""

from relay.console import Printer


def run_demo(printer: Printer) -> None:
    """x"""
