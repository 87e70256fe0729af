//! Numbers in messages, as people say them.

use std::fmt;

/// Shows a number of bytes as a person says it, and exactly: `64 KiB`, `1.5 MiB`, `4097 bytes`. Where the exact number
/// is long, a short one stands behind it: `4194308 KiB (about 4 GiB)`.
pub(super) struct Bytes(pub(super) usize);

const UNITS: [(&str, u32); 6] =
    [("EiB", 60), ("PiB", 50), ("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];

impl Bytes {
    /// Numbers from here on are long.
    const LONG: u128 = 10_000;

    /// The number in units of `1 << shift` bytes, in hundredths, rounded; and whether that is exact.
    fn hundredths(&self, shift: u32) -> (u128, bool) {
        let bytes = self.0 as u128 * 100;
        ((bytes + (1 << (shift - 1))) >> shift, bytes.is_multiple_of(1 << shift))
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0 as u128;
        let Some(&(largest, shift)) = UNITS.iter().find(|(_, shift)| bytes >= 1 << shift) else {
            return write!(f, "{bytes} {}", if bytes == 1 { "byte" } else { "bytes" });
        };
        for (unit, shift) in UNITS {
            let (hundredths, is_exact) = self.hundredths(shift);
            if is_exact && (100..100 * Self::LONG).contains(&hundredths) {
                return write!(f, "{} {unit}", Hundredths(hundredths));
            }
        }
        if bytes < Self::LONG {
            return write!(f, "{bytes} bytes");
        }
        match bytes.is_multiple_of(1024) {
            true => write!(f, "{} KiB", bytes / 1024)?,
            false => write!(f, "{bytes} bytes")?,
        }
        write!(f, " (about {} {largest})", Hundredths(self.hundredths(shift).0))
    }
}

/// Shows hundredths as a decimal number without zeros at its end.
struct Hundredths(u128);

impl fmt::Display for Hundredths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / 100, self.0 % 100);
        match (rest, rest % 10) {
            (0, _) => write!(f, "{whole}"),
            (_, 0) => write!(f, "{whole}.{}", rest / 10),
            _ => write!(f, "{whole}.{rest:02}"),
        }
    }
}

/// Shows how many more elements, with the verb that follows.
pub(super) struct More(pub(super) usize);

impl fmt::Display for More {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => f.write_str("1 more element does"),
            more => write!(f, "{more} more elements do"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_pointer_width = "64")]
    fn sizes_are_said_as_people_say_them_and_stay_exact() {
        const KIB: usize = 1 << 10;
        const GIB: usize = 1 << 30;
        for (bytes, said) in [
            (0, "0 bytes"),
            (1, "1 byte"),
            (1023, "1023 bytes"),
            (1024, "1 KiB"),
            (1280, "1.25 KiB"),
            (4097, "4097 bytes"),
            (64 * KIB, "64 KiB"),
            (1536 * KIB, "1.5 MiB"),
            (1540 * KIB, "1540 KiB"),
            (1026 * KIB, "1026 KiB"),
            (4 * GIB, "4 GiB"),
            (4 * GIB + GIB / 4, "4.25 GiB"),
            (3 << 40, "3 TiB"),
            (1 << 62, "4 EiB"),
            // Long numbers have a short one behind them.
            (10_001, "10001 bytes (about 9.77 KiB)"),
            (4 * GIB + 4 * KIB, "4194308 KiB (about 4 GiB)"),
            (4 * GIB + 1, "4294967297 bytes (about 4 GiB)"),
            (GIB - 4 * KIB, "1048572 KiB (about 1024 MiB)"),
            (usize::MAX, "18446744073709551615 bytes (about 16 EiB)"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), said);
        }
        assert_eq!(
            (Hundredths(105).to_string(), Hundredths(7).to_string()),
            ("1.05".into(), "0.07".into())
        );
    }
}
