"""Reading and writing: every byte from outside comes in through here."""
