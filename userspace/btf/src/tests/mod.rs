//! Tests on BTF made by hand, on what was cut out of a real kernel's, and on the running kernel's.

mod hostile;
mod kernels;
mod queries;
mod synthetic;
