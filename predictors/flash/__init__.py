"""FLASH: accuracy and hardware costs as formulas, and the two-level search over them."""
