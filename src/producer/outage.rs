//! Logs an outage when it begins and when it ends.

/// Whether something fails at present.
#[derive(Debug, Default)]
pub struct Outage(bool);

impl Outage {
    /// Notes a failure. Returns true for the first of an outage.
    pub fn begin(&mut self) -> bool {
        !std::mem::replace(&mut self.0, true)
    }

    /// Notes a success. Returns true for the first after an outage.
    pub fn end(&mut self) -> bool {
        std::mem::take(&mut self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outage_begins_and_ends_once() {
        let mut outage = Outage::default();
        assert!(!outage.end());
        assert_eq!([outage.begin(), outage.begin()], [true, false]);
        assert_eq!([outage.end(), outage.end()], [true, false]);
        assert!(outage.begin());
    }
}
