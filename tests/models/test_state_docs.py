"""docs/state.md shows the layouts that the code has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.items import DERIVED, ITEM_ROW
from models.layout import field_table
from models.users import USER_ROW

PAGE = Path(__file__).parents[2] / "docs" / "state.md"


@pytest.mark.parametrize("dtype", [USER_ROW, ITEM_ROW, DERIVED], ids=["user", "item", "derived"])
def test_the_page_shows_this_layout(dtype: np.dtype[np.void]) -> None:
    assert field_table(dtype) in PAGE.read_text()
