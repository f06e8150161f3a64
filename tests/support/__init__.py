"""What the tests stand on: servers, backends, faces, the README, and processes to kill."""
