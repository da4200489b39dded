//! Listeners: Unix sockets, sockets of systemd, the admin listener, and the PROXY protocol.

mod admin;
mod proxy_protocol;
mod systemd;
mod unix;
