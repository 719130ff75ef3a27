"""The servants that callers see: the functions of their interfaces, answered from the table."""
