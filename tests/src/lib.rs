//! What the tests of the whole share: running the program and its clients.
