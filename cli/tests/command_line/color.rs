//! Colours: only where somebody sees them, and wants them.

use crate::{complaint, pagewise, run, text};

const ESCAPE: char = '\x1b';

#[test]
fn a_pipe_gets_colours_only_when_it_asks() {
    let is_coloured = |arguments: &[&str]| text(&run(arguments)).contains(ESCAPE);
    assert!(!is_coloured(&["demo"]));
    assert!(!is_coloured(&["demo", "--color", "auto"]));
    assert!(!is_coloured(&["--color", "never", "demo"]));
    assert!(is_coloured(&["demo", "--color=always"]));
    assert!(is_coloured(&["--color", "always", "demo"]));
}

#[test]
fn colours_change_nothing_but_colours() {
    let plain = text(&run(&["demo"]));
    let coloured = text(&run(&["demo", "--color", "always"]));
    let picture = |text: &str| -> String {
        text.split(ESCAPE)
            .flat_map(|part| {
                part.strip_prefix('[').map_or(part, |rest| rest.split_once('m').unwrap().1).chars()
            })
            .filter(|letter| "·▒█▓".contains(*letter))
            .collect()
    };
    assert_eq!(picture(&coloured), picture(&plain));
    assert!(picture(&plain).len() > 80);
}

#[test]
fn the_flag_counts_for_help_and_for_complaints_too() {
    let is_coloured = |when: &str, rest: &str| {
        let output = run(&["--color", when, "demo", rest]);
        (text(&output) + &complaint(&output)).contains(ESCAPE)
    };
    assert!(is_coloured("always", "--help") && !is_coloured("never", "--help"));
    assert!(is_coloured("always", "--bad") && !is_coloured("never", "--bad"));
    assert!(is_coloured("always", "--limit=81") && !is_coloured("never", "--limit=81"));
}

#[test]
fn another_word_for_when_is_refused() {
    let output = run(&["demo", "--color", "sometimes"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(complaint(&output).contains("sometimes"));
}

#[test]
fn the_environment_does_not_overrule_the_flag() {
    for (name, value) in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let command = &mut pagewise(&["demo", "--color", "always"]);
        let output = command.env(name, value).output().expect("it starts");
        assert!(text(&output).contains(ESCAPE), "{name}={value}");
    }
}

#[cfg(unix)]
mod on_a_terminal {
    use std::fs::File;
    use std::io::Read;

    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

    use crate::pagewise;

    /// What a terminal gets.
    fn seen(arguments: &[&str], environment: &[(&str, &str)]) -> String {
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&controller).expect("it is ours");
        unlockpt(&controller).expect("it opens");
        let name = ptsname(&controller, Vec::new()).expect("it has a name");
        let name = name.into_string().expect("its name is text");
        let terminal = File::options().read(true).write(true).open(name).expect("it is there");
        let mut command = pagewise(arguments);
        command.env("TERM", "xterm-256color").envs(environment.iter().copied()).stdout(terminal);
        let mut child = command.spawn().expect("it starts");
        drop(command); // and with it this process's end of the terminal
        let (mut controller, mut bytes) = (File::from(controller), Vec::new());
        // Linux ends the stream with an error (EIO) once nobody has the terminal open.
        let _ = controller.read_to_end(&mut bytes);
        assert!(child.wait().expect("it ends").success());
        String::from_utf8(bytes).expect("output is text")
    }

    #[test]
    fn a_terminal_gets_colours() {
        let seen = seen(&["demo"], &[]);
        assert!(seen.contains("\x1b[90m·") && seen.contains("released"), "{seen}");
    }

    #[test]
    fn no_color_and_dumb_terminals_are_heard() {
        for environment in [("NO_COLOR", "1"), ("TERM", "dumb")] {
            let seen = seen(&["demo"], &[environment]);
            assert!(!seen.contains('\x1b') && seen.contains("released"), "{environment:?}: {seen}");
        }
        assert!(seen(&["demo"], &[("NO_COLOR", "")]).contains('\x1b'), "empty is not set");
    }

    #[test]
    fn never_is_never() {
        assert!(!seen(&["demo", "--color", "never"], &[]).contains('\x1b'));
    }
}
