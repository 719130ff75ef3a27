"""Which endpoints a caller gets: pure functions of table, question and caller."""
