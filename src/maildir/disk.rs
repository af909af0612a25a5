//! What the files here share of system calls.
