//! The query of a list that is returned in pages.

use super::problem::Problem;

const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1000;

/// The parameters of a list.
pub(super) struct PageQuery {
    /// The largest number of items in the page.
    pub(super) limit: usize,
    /// The key after which the page begins.
    pub(super) after: Option<String>,
    /// Whether to list all servers that share a backbone (`scope=cluster`).
    pub(super) is_of_cluster: bool,
    filters: Vec<(String, String)>,
}

impl PageQuery {
    /// Parses the query of a list with these filters. An unknown parameter is an error: a misspelled filter would list
    /// everything.
    pub(super) fn parse(query: &str, filters: &[&str]) -> Result<Self, Problem> {
        let mut page = Self { limit: DEFAULT_LIMIT, after: None, is_of_cluster: false, filters: Vec::new() };
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            match (&*key, &*value) {
                ("limit", limit) => {
                    let limit = limit.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
                    let invalid = || Problem::bad_request(format!("parameter limit: expected 1 to {MAX_LIMIT}"));
                    page.limit = limit.ok_or_else(invalid)?;
                }
                ("after", after) => page.after = Some(after.to_owned()),
                ("scope", "node") => page.is_of_cluster = false,
                ("scope", "cluster") => page.is_of_cluster = true,
                ("scope", _) => return Err(Problem::bad_request("parameter scope: expected node or cluster")),
                // Read by the authorization.
                ("access_token", _) => {}
                (key, value) if filters.contains(&key) => page.filters.push((key.to_owned(), value.to_owned())),
                (key, _) => {
                    let known = filters.join(", ");
                    let detail = format!("unknown parameter {key:?}; expected limit, after, scope, {known}");
                    return Err(Problem::bad_request(detail));
                }
            }
        }
        Ok(page)
    }

    /// Returns the values of a filter.
    pub(super) fn values<'a>(&'a self, filter: &'a str) -> impl Iterator<Item = &'a str> {
        self.filters.iter().filter(move |(key, _)| key == filter).map(|(_, value)| value.as_str())
    }

    /// Whether `has` is true for each value of a filter.
    pub(super) fn matches(&self, filter: &str, has: impl Fn(&str) -> bool) -> bool {
        self.values(filter).all(has)
    }
}
