//! Thousands of connections that send a byte now and then.
