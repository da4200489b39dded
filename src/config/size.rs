//! Numbers of bytes, such as `64KiB`.

use super::kind::Kind;

/// A number of bytes.
#[derive(Debug)]
pub struct Size {
    /// The smallest.
    pub min: usize,
    /// The largest.
    pub max: usize,
}

/// The units, the largest first.
const UNITS: [(&str, usize); 4] = [("TiB", TIB), ("GiB", GIB), ("MiB", MIB), ("KiB", KIB)];

/// 1024 bytes.
pub const KIB: usize = 1 << 10;
/// 1024 KiB.
pub const MIB: usize = 1 << 20;
/// 1024 MiB.
pub const GIB: usize = 1 << 30;
/// 1024 GiB.
pub const TIB: usize = 1 << 40;

impl Kind for Size {
    type Value = usize;

    fn parse(&self, text: &str) -> Result<usize, String> {
        let bytes = parse(text.trim()).filter(|bytes| (self.min..=self.max).contains(bytes));
        bytes.ok_or_else(|| format!("must be {}, in bytes or with a unit: 65536, 64KiB, 1MiB, 2GiB", self.allowed()))
    }

    fn allowed(&self) -> String {
        format!("{} to {}", display(self.min), display(self.max))
    }

    fn write(&self, value: &usize) -> Option<toml::Value> {
        Some(toml::Value::String(display(*value)))
    }
}

fn parse(text: &str) -> Option<usize> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_start();
    let factor = match unit {
        "" | "B" => 1,
        _ => UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?.1,
    };
    number.parse::<usize>().ok()?.checked_mul(factor)
}

/// `bytes` in the largest unit that divides it.
pub fn display(bytes: usize) -> String {
    match UNITS.iter().find(|(_, factor)| bytes > 0 && bytes.is_multiple_of(*factor)) {
        Some((unit, factor)) => format!("{}{unit}", bytes / factor),
        None => format!("{bytes}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_bytes_or_a_number_with_a_binary_unit() {
        for (text, bytes) in
            [("0", 0), ("65536", 65536), ("1 B", 1), ("64KiB", 65536), ("1 mib", MIB), ("3GiB", 3 * GIB)]
        {
            assert_eq!(parse(text), Some(bytes), "{text}");
        }
    }

    #[test]
    fn a_size_in_any_other_form_is_refused() {
        for text in ["", "KiB", "64k", "64KB", "1.5MiB", "-1", "1 000", "99999999999TiB", "١KiB"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_size_reads_back_as_it_was_displayed() {
        for bytes in [0, 1, 1023, KIB, KIB + 1, 64 * MIB, TIB, 1536 * KIB] {
            assert_eq!(parse(&display(bytes)), Some(bytes));
        }
        assert_eq!(display(1536 * KIB), "1536KiB");
    }

    #[test]
    fn a_size_out_of_range_is_refused_with_the_range() {
        let complaint = Size { min: 4 * KIB, max: 16 * MIB }.parse("1GiB").unwrap_err();
        assert_eq!(complaint, "must be 4KiB to 16MiB, in bytes or with a unit: 65536, 64KiB, 1MiB, 2GiB");
    }
}
