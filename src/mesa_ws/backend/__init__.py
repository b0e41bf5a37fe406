"""What nodes share: the ports, and the backends that offer them."""
