//! Reads the tables of docs/benchmarks.md back.

/// The numbers of a row that has both.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub rival: String,
    pub ours: f64,
    pub theirs: f64,
    pub unit: String,
}

/// All rows of a case in the first table of a suite, in their order. Columns are found by their names.
pub fn case(document: &str, suite: &str, case: &str) -> Vec<Entry> {
    let heading = format!("\n#### {suite}\n");
    let Some((_, from)) = document.split_once(&heading) else { return Vec::new() };
    let section = from.split("\n### ").next().and_then(|rest| rest.split("\n#### ").next());
    let mut lines = section.unwrap_or("").lines().filter(|line| line.starts_with('|'));
    let names = lines.next().map(cells).unwrap_or_default();
    let entry = |line: &str| {
        let cells = cells(line);
        let column =
            |name| names.iter().position(|known| *known == name).and_then(|at| cells.get(at));
        let number = |name| column(name)?.replace(',', "").parse().ok();
        let is_it = column("case").is_some_and(|name| *name == case);
        is_it.then_some(())?;
        Some(Entry {
            rival: (*column("rival")?).into(),
            ours: number("ours")?,
            theirs: number("rival's")?,
            unit: (*column("unit")?).into(),
        })
    };
    lines.filter_map(entry).collect()
}

fn cells(line: &str) -> Vec<&str> {
    line.trim_matches('|').split('|').map(str::trim).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_found_by_their_names_and_rows_without_numbers_are_left_out() {
        let document = "\n### A\n\n#### fill\n\n| case | rival | new | ours | rival's | unit |\n|---|---|\n\
                        | c | Vec::new | x | 4.46 | 1,005.26 | ns/push |\n| c | gone | x | 4.46 | – | ns/push |\n\
                        | other | Vec | x | 1 | 2 | ns |\n\n#### fault\n\n| case | rival | ours | rival's | unit |\n\
                        | c | in another suite | 1 | 2 | ns |\n\n### B\n\n#### fill\n| c | another machine | x | 1 | 2 | ns |\n";
        let expected =
            Entry { rival: "Vec::new".into(), ours: 4.46, theirs: 1005.26, unit: "ns/push".into() };
        assert_eq!(case(document, "fill", "c"), [expected]);
        assert_eq!(case(document, "scale", "c"), []);
    }
}
