"""`mesa demo`: servers, clients and a dispatching process, and who received what."""
