//! A flat, self-relative data layout that is built and read in place.
