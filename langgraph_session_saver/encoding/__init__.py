"""Values to stored bytes and back: keys, serialisation, compression and deltas. Pure."""
