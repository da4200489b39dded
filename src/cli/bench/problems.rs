//! The problems of a run and how often each occurred.

use serde::Serialize;

/// The most kinds of problems that are listed.
const MAX_KINDS: usize = 20;

/// One kind of problem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    pub what: String,
    pub count: u64,
}

/// The kinds of problems, in order of appearance.
#[derive(Clone, Debug, Default)]
pub struct Problems(Vec<Problem>);

impl Problems {
    pub fn note(&mut self, what: impl Into<String>) {
        let what = what.into();
        if let Some(known) = self.0.iter_mut().find(|known| known.what == what) {
            known.count += 1;
        } else if self.0.len() < MAX_KINDS {
            self.0.push(Problem { what, count: 1 });
        } else if let Some(last) = self.0.last_mut() {
            *last = Problem { what: "other problems".into(), count: last.count + 1 };
        }
    }

    pub fn list(&self) -> &[Problem] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_of_one_kind_are_counted_and_kinds_are_bounded() {
        let mut problems = Problems::default();
        for number in 0..100 {
            problems.note("first");
            problems.note(format!("kind {number}"));
        }
        assert_eq!(problems.list()[0], Problem { what: "first".into(), count: 100 });
        assert_eq!(problems.list().len(), MAX_KINDS);
        assert_eq!(problems.list().iter().map(|problem| problem.count).sum::<u64>(), 200);
    }
}
