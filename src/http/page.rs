//! Lists that are answered a page at a time.

use super::problem::Problem;

const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1000;

/// The parameters of a list: where the page begins, how long it is at most, and the filters that the list knows.
pub(super) struct PageQuery {
    pub(super) limit: usize,
    pub(super) after: Option<String>,
    filters: Vec<(String, String)>,
}

impl PageQuery {
    /// Reads the query. A parameter that is none of `filters` is refused: a filter that is misspelled would show
    /// everything.
    pub(super) fn parse(query: &str, filters: &[&str]) -> Result<Self, Problem> {
        let mut page = Self { limit: DEFAULT_LIMIT, after: None, filters: Vec::new() };
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*key {
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
                    let expected = || Problem::bad_request(format!("it is a number from 1 to {MAX_LIMIT}"));
                    page.limit = limit.ok_or_else(|| expected().at("parameter limit"))?;
                }
                // Whoever asks may show a token here.
                "access_token" => {}
                "after" => page.after = Some(value.into_owned()),
                key if filters.contains(&key) => page.filters.push((key.to_owned(), value.into_owned())),
                key => {
                    let known = filters.join(", ");
                    return Err(Problem::bad_request(format!("{key:?} is none of limit, after, {known}")));
                }
            }
        }
        Ok(page)
    }

    /// What is asked for under `filter`.
    pub(super) fn values<'a>(&'a self, filter: &'a str) -> impl Iterator<Item = &'a str> {
        self.filters.iter().filter(move |(key, _)| key == filter).map(|(_, value)| value.as_str())
    }

    /// Whether each value that is asked for under `filter` is there.
    pub(super) fn takes(&self, filter: &str, is_there: impl Fn(&str) -> bool) -> bool {
        self.values(filter).all(is_there)
    }
}
