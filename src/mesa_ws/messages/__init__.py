"""Messages, recipients, receipts, requests and envelopes, and their bytes on the wire. No I/O, no clock."""
