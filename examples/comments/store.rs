//! Comments in an SQLite database.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rusqlite::{Connection, Params, Result, Row, params};
use serde::Serialize;

/// A comment, as clients get it.
#[derive(Serialize)]
pub struct Comment {
    pub id: i64,
    author: String,
    text: String,
    /// Seconds since 1970.
    created: i64,
    is_edited: bool,
}

impl TryFrom<&Row<'_>> for Comment {
    type Error = rusqlite::Error;

    fn try_from(row: &Row) -> Result<Self> {
        Ok(Self {
            id: row.get("id")?,
            author: row.get("author")?,
            text: row.get("text")?,
            created: row.get("created")?,
            is_edited: row.get("is_edited")?,
        })
    }
}

/// The database. Its calls block.
pub struct Store(Mutex<Connection>);

impl Store {
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let connection = Connection::open(path)?;
        connection.execute_batch(
            "PRAGMA journal_mode = WAL;
             CREATE TABLE IF NOT EXISTS comments (
                 id INTEGER PRIMARY KEY AUTOINCREMENT,
                 discussion TEXT NOT NULL,
                 author TEXT NOT NULL,
                 text TEXT NOT NULL,
                 created INTEGER NOT NULL DEFAULT (unixepoch()),
                 is_edited INTEGER NOT NULL DEFAULT FALSE
             );
             CREATE INDEX IF NOT EXISTS comments_by_discussion ON comments (discussion, id);",
        )?;
        Ok(Self(Mutex::new(connection)))
    }

    /// The comments of a discussion, oldest first.
    pub fn list(&self, discussion: &str) -> Result<Vec<Comment>> {
        self.query("SELECT * FROM comments WHERE discussion = ? ORDER BY id", [discussion])
    }

    pub fn read(&self, discussion: &str, id: i64) -> Result<Comment> {
        self.one("SELECT * FROM comments WHERE discussion = ? AND id = ?", params![discussion, id])
    }

    pub fn create(&self, discussion: &str, author: &str, text: &str) -> Result<Comment> {
        let sql = "INSERT INTO comments (discussion, author, text) VALUES (?, ?, ?) RETURNING *";
        self.one(sql, [discussion, author, text])
    }

    pub fn update(&self, discussion: &str, id: i64, text: &str) -> Result<Comment> {
        let sql = "UPDATE comments SET text = ?, is_edited = TRUE WHERE discussion = ? AND id = ? RETURNING *";
        self.one(sql, params![text, discussion, id])
    }

    pub fn delete(&self, discussion: &str, id: i64) -> Result<Comment> {
        self.one("DELETE FROM comments WHERE discussion = ? AND id = ? RETURNING *", params![discussion, id])
    }

    fn query(&self, sql: &str, parameters: impl Params) -> Result<Vec<Comment>> {
        let connection = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut statement = connection.prepare_cached(sql)?;
        statement.query_map(parameters, |row| Comment::try_from(row))?.collect()
    }

    /// To the end of the statement, because SQLite commits a change there.
    fn one(&self, sql: &str, parameters: impl Params) -> Result<Comment> {
        self.query(sql, parameters)?.pop().ok_or(rusqlite::Error::QueryReturnedNoRows)
    }
}
