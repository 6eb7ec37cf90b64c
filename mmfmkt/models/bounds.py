"""Annotated number types with bounds, for the arguments of flows and losses.

Constructors do not check them. ``mmfmkt.utils.schema`` checks configs against
them with pydantic, which flows and losses themselves do not need.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Callable


@dataclass(frozen=True)
class Bound:
    """Constraint on a number: ``Annotated[int, Bound('ge', 1)]``.

    Args:
        name (str): ``'gt'``, ``'ge'``, ``'lt'``, ``'le'`` or
            ``'allow_inf_nan'``.
        value (float | bool): Value of the constraint.
    """

    name: str
    value: float

    def __get_pydantic_core_schema__(
        self, source: Any, handler: Callable[[Any], dict]
    ) -> dict:
        """Add the constraint to the number's schema; pydantic calls this."""
        return {**handler(source), self.name: self.value}


Finite = Annotated[float, Bound('allow_inf_nan', False)]
Positive = Annotated[Finite, Bound('gt', 0)]
NonNegative = Annotated[Finite, Bound('ge', 0)]
UnitInterval = Annotated[NonNegative, Bound('le', 1)]
PositiveInt = Annotated[int, Bound('ge', 1)]
NonNegativeInt = Annotated[int, Bound('ge', 0)]
