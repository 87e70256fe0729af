//! Pages as a picture for terminals.

use pagewise::{PageMap, PageState};

/// Cells in a row.
const COLUMNS: usize = 64;

/// Rows of a picture.
const MOST_ROWS: usize = 16;

/// What a cell shows: of the pages in it, the most that any of them is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Cell {
    Reserved,
    Committed,
    Resident,
    Huge,
}

impl Cell {
    const ALL: [Self; 4] = [Self::Reserved, Self::Committed, Self::Resident, Self::Huge];

    fn of(state: PageState) -> Self {
        match state {
            PageState { huge: true, .. } => Self::Huge,
            PageState { resident: true, .. } => Self::Resident,
            PageState { committed: true, .. } => Self::Committed,
            _ => Self::Reserved,
        }
    }

    /// The glyphs differ, too, for those who see no colours.
    fn look(self) -> (u8, char, &'static str) {
        match self {
            Self::Reserved => (90, '·', "reserved"),
            Self::Committed => (33, '▒', "committed"),
            Self::Resident => (32, '█', "resident"),
            Self::Huge => (35, '▓', "huge page"),
        }
    }
}

/// One cell a page, with a legend. Where there are more pages than cells, each cell stands for as many pages as
/// the others.
pub fn of(map: &PageMap, color: bool) -> String {
    let each = map.pages().div_ceil(MOST_ROWS * COLUMNS).max(1);
    let cells = cells(map, each);
    let mut text = String::new();
    for row in cells.chunks(COLUMNS) {
        for same in row.chunk_by(|a, b| a == b) {
            draw(&mut text, same[0], same.len(), color);
        }
        text.push('\n');
    }
    let mut gap = "";
    for cell in Cell::ALL.into_iter().filter(|&cell| cell != Cell::Huge || cells.contains(&cell)) {
        text.push_str(gap);
        draw(&mut text, cell, 1, color);
        text.push(' ');
        text.push_str(cell.look().2);
        gap = "   ";
    }
    if each > 1 {
        text.push_str(&format!(
            "\neach cell is {each} pages, and shows the most that one of them is"
        ));
    }
    text
}

fn cells(map: &PageMap, each: usize) -> Vec<Cell> {
    let mut cells = vec![Cell::Reserved; map.pages().div_ceil(each)];
    for run in map.runs() {
        let last = (run.first + run.count - 1) / each;
        for cell in &mut cells[run.first / each..=last] {
            *cell = Cell::of(run.state).max(*cell);
        }
    }
    cells
}

fn draw(text: &mut String, cell: Cell, count: usize, color: bool) {
    let (code, glyph, _) = cell.look();
    let glyphs = String::from(glyph).repeat(count);
    if color {
        text.push_str(&format!("\x1b[{code}m{glyphs}\x1b[0m"));
    } else {
        text.push_str(&glyphs);
    }
}
