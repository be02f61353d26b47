"""Number types that values are stored in; without Zarr, for whoever only names them."""

from typing import Literal

DTypeName = Literal["float32", "float16"]
