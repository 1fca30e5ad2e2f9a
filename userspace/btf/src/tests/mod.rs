//! Tests on BTF made by hand, on what was cut out of a real kernel's.

mod hostile;
mod queries;
mod synthetic;
