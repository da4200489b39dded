//! The part of the access rules that needs the feature `auth`, in a program without it: nothing.

use std::future::pending;

use fanline::auth::Access;

use super::InvalidRules;
use crate::config::AccessSettings;

/// No key set.
pub struct Fetched;

impl Fetched {
    pub fn refresh_in_background(&self) {}

    pub async fn refresh(&self) -> Result<(), InvalidRules> {
        Ok(())
    }

    pub async fn key_withdrawn(&self) {
        pending().await
    }
}

/// Returns `access`: the settings have no tokens and no service.
pub fn add(access: Access, _: &AccessSettings, _: Option<&Fetched>) -> Result<(Access, Fetched), InvalidRules> {
    Ok((access, Fetched))
}
