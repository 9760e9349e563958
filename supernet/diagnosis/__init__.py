"""Why shared weights rank networks wrongly: causes of the optimisation gap, measured."""
