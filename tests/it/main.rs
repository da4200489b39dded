//! What clients see, tested from outside: over sockets, byte by byte.

mod curl;
mod health;
mod lag;
mod layers;
mod publishing;
mod refusals;
mod replay;
mod subscribing;
mod support;
mod takeover;
