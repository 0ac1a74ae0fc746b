//! Attacks after the login, while a command runs.
