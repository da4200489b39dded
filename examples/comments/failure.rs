//! Errors of handlers, as responses.

use std::fmt::Display;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

/// A status, and a text for people.
pub struct Failure(StatusCode, String);

impl Failure {
    /// The request is not valid.
    pub fn invalid(reason: impl Display) -> Self {
        Self(StatusCode::UNPROCESSABLE_ENTITY, reason.to_string())
    }

    /// The request is valid, and cannot be served now.
    pub fn unavailable(reason: impl Display) -> Self {
        Self(StatusCode::SERVICE_UNAVAILABLE, reason.to_string())
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        match error {
            rusqlite::Error::QueryReturnedNoRows => Self(StatusCode::NOT_FOUND, "there is no such comment".into()),
            error => Self(StatusCode::INTERNAL_SERVER_ERROR, format!("the database failed: {error}")),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.0, self.1).into_response()
    }
}
