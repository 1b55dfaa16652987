"""A number with its noun, as a person would say it."""


def counted(number: int, one: str, many: str) -> str:
    """``counted(1, "row differs", "rows differ")`` is ``1 row differs``."""
    return f"{number} {one if number == 1 else many}"
