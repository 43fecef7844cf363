"""Checks the device of a model whose components are to be offloaded, without importing torch."""

from __future__ import annotations

from efface.core.errors import EffaceError


def check_offload_device(kind: str) -> None:
    """Checks that a model whose components are to be offloaded to the CPU computes on another device.

    Args:
        kind: the device's, such as ``cuda``.

    Raises:
        EffaceError: it is the CPU.
    """
    if kind == "cpu":
        raise EffaceError(
            "offloading keeps components on the CPU while another device computes, and this model computes on the CPU: "
            "omit --offload (offload=True), or choose an accelerator (--device cuda)"
        )
