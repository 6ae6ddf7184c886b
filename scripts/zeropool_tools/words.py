# SPDX-License-Identifier: MIT
"""Numbers with their nouns."""


def plural(number, noun, many=None, shown=None):
    """`1 round`, `3 rounds`; `many` where an s does not do, `shown` where the number is abbreviated."""
    return f"{number if shown is None else shown} {noun if number == 1 else many or noun + 's'}"
