"""The vocabulary: frozen values and what is known of them. No I/O in here."""
