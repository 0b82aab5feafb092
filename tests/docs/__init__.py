"""The manual: what it shows is run, and what is made from the code is as the code is."""
