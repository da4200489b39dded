#[cfg(fanline_loom)]
mod model;
#[cfg(not(fanline_loom))]
mod reading;

use super::*;
