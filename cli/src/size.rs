//! Sizes as people write them: `65536`, `64K`, `64KiB`.

/// Reads a number of bytes: digits, and one of `K`, `M`, `G`, `T` (powers of 1024), which `iB` may follow.
pub fn parse(text: &str) -> Result<usize, String> {
    let not_a_size = || format!("`{text}` is no size: write bytes, or for instance 64K, 2M, 1G");
    let end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let shift = match unit {
        "" => 0,
        "K" | "k" | "KiB" => 10,
        "M" | "MiB" => 20,
        "G" | "GiB" => 30,
        "T" | "TiB" => 40,
        _ => return Err(not_a_size()),
    };
    let number: usize = digits.parse().map_err(|_| not_a_size())?;
    number.checked_mul(1 << shift).ok_or_else(|| format!("`{text}` is more than an address space"))
}

/// Writes a number of bytes in the largest unit in which it is whole.
pub fn show(bytes: usize) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    let whole = |shift: u32| bytes > 0 && bytes.trailing_zeros() >= shift;
    match units.into_iter().find(|&(shift, _)| whole(shift)) {
        Some((shift, unit)) => format!("{} {unit}", bytes >> shift),
        None => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024_and_nothing_else() {
        let good = [("0", 0), ("65536", 65536), ("64K", 65536), ("64k", 65536), ("64KiB", 65536)];
        for (text, bytes) in good.into_iter().chain([("2M", 2 << 20), ("3GiB", 3 << 30)]) {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        for bad in ["", "K", "iB", "64iB", "64KB", "64 K", "-1", "+1", "1.5M", "0x10", "64KK", "٣"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(parse("99999999T").unwrap_err().contains("address space"));
    }

    #[test]
    fn sizes_are_shown_in_whole_units() {
        let texts = [0, 1, 4096, 65536, 65537, 2 << 20, 5 << 40].map(show);
        let expected = ["0 bytes", "1 bytes", "4 KiB", "64 KiB", "65537 bytes", "2 MiB", "5 TiB"];
        assert_eq!(texts, expected);
    }
}
