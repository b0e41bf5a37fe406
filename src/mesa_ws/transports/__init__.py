"""Where bytes meet the network: picows for servers and clients."""
