//! The client: for tests, probes and benchmarks of any vfio-user server.
