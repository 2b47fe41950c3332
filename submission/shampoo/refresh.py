"""When inverse roots are taken anew."""


def is_due(step: int, interval: int) -> bool:
    """Whether the roots are refreshed at a step, counted from 1.

    Every `interval` steps, and at each power of two before the first: the earliest factors
    change the most, and no step goes without a preconditioner.

    >>> [step for step in range(1, 31) if is_due(step, 10)]
    [1, 2, 4, 8, 10, 20, 30]
    """
    if step < interval:
        return step & (step - 1) == 0
    return step % interval == 0
