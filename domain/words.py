"""Numbers as people read them."""


def counted(count: int, one: str, many: str = "") -> str:
    """`count` with its noun, in groups of three digits: "1 record", "1,200 records".  `many` where it is not `one` with an s."""
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"
