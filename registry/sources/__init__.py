"""Where the table comes from. Each source follows one place and puts what it finds into the sink of ``base``."""
