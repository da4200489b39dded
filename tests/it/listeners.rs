//! Listeners: Unix sockets, sockets of systemd, and the admin listener.

mod admin;
mod systemd;
mod unix;
