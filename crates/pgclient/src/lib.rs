//! pgclient
