//! Pages as a picture for terminals.

use pagewise::{PageMap, PageState};

/// Pages in a row.
const COLUMNS: usize = 64;

/// One coloured cell a page, with a legend; long maps are shown in equal parts, each by its first
/// page.
pub fn of(map: &PageMap) -> String {
    const MOST: usize = 16 * COLUMNS;
    let each = map.pages().div_ceil(MOST).max(1);
    let mut text = String::new();
    for (cell, page) in (0..map.pages()).step_by(each).enumerate() {
        if cell > 0 && cell % COLUMNS == 0 {
            text.push('\n');
        }
        text.push_str(&cell_of(map.page(page)));
    }
    text.push_str(&format!(
        "\n{} reserved   {} committed   {} resident",
        cell_of(PageState::default()),
        cell_of(PageState { committed: true, ..PageState::default() }),
        cell_of(PageState { committed: true, resident: true, ..PageState::default() }),
    ));
    if each > 1 {
        text.push_str(&format!("   (each cell is {each} pages)"));
    }
    text
}

fn cell_of(state: PageState) -> String {
    let (colour, cell) = match state {
        PageState { huge: true, .. } => (35, '█'),
        PageState { resident: true, .. } => (32, '█'),
        PageState { committed: true, .. } => (33, '▒'),
        _ => (90, '·'),
    };
    format!("\x1b[{colour}m{cell}\x1b[0m")
}
