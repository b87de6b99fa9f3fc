"""The space of everything that can be asked of a recurrent layer: configs, cases, values, strategies, outcomes."""
