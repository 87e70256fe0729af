//! The table of counts in a document.

use std::fmt::Write;

const BEGIN: &str = "<!-- instructions: begin -->";
const END: &str = "<!-- instructions: end -->";

/// Instructions of one operation.
#[derive(Clone, Debug, PartialEq)]
pub struct Count {
    pub what: String,
    pub instructions: f64,
}

/// How much more than in the table a count may be.
const MOST: f64 = 1.05;

/// The document with a new table between its marks.
pub fn replaced(text: &str, counts: &[Count], compiler: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    let mut table = format!("{compiler}, x86-64.\n\n| what | instructions |\n|---|--:|\n");
    for count in counts {
        let _ = writeln!(table, "| {} | {:.1} |", count.what, count.instructions);
    }
    Some(format!("{before}{BEGIN}\n\n{table}\n{END}{after}"))
}

fn parsed(text: &str) -> Option<Vec<Count>> {
    let (table, _) = text.split_once(BEGIN)?.1.split_once(END)?;
    let row = |line: &str| {
        let mut cells = line.trim_matches('|').split('|').map(str::trim);
        let (what, number) = (cells.next()?.to_owned(), cells.next()?);
        Some(Count { what, instructions: number.parse().ok()? })
    };
    Some(table.lines().filter_map(row).collect())
}

/// Fails if a count has grown, or is not in the table, or is there and was not counted.
pub fn compare(text: &str, counts: &[Count], compiler: &str) -> Result<(), String> {
    let known = parsed(text).ok_or("the document has no table of instructions")?;
    let mut wrong = Vec::new();
    for count in counts {
        match known.iter().find(|known| known.what == count.what) {
            None => wrong.push(format!("{} is not in the table", count.what)),
            // What is shown has one digit behind the point.
            Some(known) if count.instructions > known.instructions * MOST + 0.05 => {
                wrong.push(format!(
                    "{}: {:.1} instructions, {:.1} in the table",
                    count.what, count.instructions, known.instructions
                ))
            }
            Some(_) => (),
        }
    }
    let gone = known.iter().filter(|known| counts.iter().all(|count| count.what != known.what));
    wrong.extend(gone.map(|known| format!("{} is in the table, and was not counted", known.what)));
    if wrong.is_empty() {
        return Ok(());
    }
    Err(format!(
        "{}\nIf that is meant, renew the table: ci/instructions --report docs/benchmarks.md (this is {compiler})",
        wrong.join("\n")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(what: &str, instructions: f64) -> Count {
        Count { what: what.into(), instructions }
    }

    fn document(counts: &[Count]) -> String {
        replaced(&format!("before {BEGIN}old{END} after"), counts, "rustc 1.88.0").unwrap()
    }

    #[test]
    fn what_is_written_can_be_read_and_the_rest_stays() {
        let counts = [count("push", 7.04), count("a fault", 1234.5)];
        let text = document(&counts);
        assert_eq!(parsed(&text).unwrap(), [count("push", 7.0), count("a fault", 1234.5)]);
        assert!(text.starts_with("before ") && text.ends_with(" after") && !text.contains("old"));
        assert_eq!(replaced("no marks", &counts, ""), None);
    }

    #[test]
    fn a_count_that_grows_by_more_than_a_twentieth_fails_and_a_smaller_one_does_not() {
        let text = document(&[count("push", 100.0), count("a fault", 1000.0)]);
        let of = |push, fault| compare(&text, &[count("push", push), count("a fault", fault)], "");
        assert_eq!(of(100.0, 1000.0), Ok(()));
        assert_eq!(of(105.0, 500.0), Ok(()));
        assert!(
            of(105.2, 1000.0).unwrap_err().contains("push: 105.2 instructions, 100.0 in the table")
        );
        assert!(of(100.0, 1051.0).is_err());
    }

    #[test]
    fn rows_without_a_count_and_counts_without_a_row_fail() {
        let text = document(&[count("push", 100.0), count("gone", 1.0)]);
        let said = compare(&text, &[count("push", 100.0), count("new", 1.0)], "").unwrap_err();
        assert!(
            said.contains("new is not in the table") && said.contains("gone is in the table"),
            "{said}"
        );
        assert!(compare("no marks", &[], "").is_err());
    }
}
