//! Tests about the workspace itself.
