"""The checker of shapes and types in tests; an int counts as a float, as for type checkers."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
