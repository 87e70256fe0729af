//! Shell completions and manual pages.

use crate::{complaint, run, text};

#[test]
fn every_shell_gets_a_script_that_knows_the_options() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let output = run(&["completions", shell]);
        assert_eq!(output.status.code(), Some(0), "{shell}");
        let script = text(&output);
        for word in ["demo", "doctor", "engine", "color"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    let output = run(&["completions", "tcsh"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(complaint(&output).contains("bash"));
}

/// What bash offers after these words.
#[cfg(target_os = "linux")]
fn offered(words: &str) -> Vec<String> {
    let script = text(&run(&["completions", "bash"]));
    let ask = format!(
        "COMP_WORDS=({words}) COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
         _pagewise pagewise \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD-1]}}\"
         printf '%s\\n' \"${{COMPREPLY[@]}}\""
    );
    let output = std::process::Command::new("bash")
        .args(["--norc", "-c", &format!("{script}\n{ask}")])
        .output()
        .expect("bash starts");
    assert!(output.stderr.is_empty(), "{}", complaint(&output));
    text(&output).lines().map(str::to_owned).collect()
}

#[cfg(target_os = "linux")]
#[test]
fn bash_completes_subcommands_options_and_values() {
    assert_eq!(offered("pagewise dem"), ["demo"]);
    assert_eq!(offered("pagewise demo --eng"), ["--engine"]);
    assert_eq!(offered("pagewise demo --engine user"), ["userfault"]);
}

#[test]
fn a_manual_page_has_every_option_and_the_exit_codes() {
    let page = text(&run(&["man", "demo"]));
    assert!(page.contains(".TH pagewise-demo 1") && page.contains(".SH \"EXIT STATUS\""), "{page}");
    let options = ["pages", "limit", "touch", "order", "step", "engine", "eager", "json", "color"];
    for option in options {
        assert!(page.contains(&format!("\\-\\-{option}")), "{option} is missing in:\n{page}");
    }
    let page = text(&run(&["man"]));
    assert!(page.contains(".TH pagewise 1") && page.contains("demo"), "{page}");
}

#[test]
fn all_manual_pages_are_written_to_a_folder() {
    let folder = std::env::temp_dir().join(format!("pagewise-man-{}", std::process::id()));
    let output = run(&["man", "--all", folder.to_str().expect("its name is text")]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(0), 0), "{output:?}");
    let mut names: Vec<_> = std::fs::read_dir(&folder)
        .expect("the folder is there")
        .map(|entry| entry.expect("a file").file_name().into_string().expect("its name is text"))
        .collect();
    names.sort();
    std::fs::remove_dir_all(&folder).expect("it can go");
    let expected = [
        "pagewise-completions.1",
        "pagewise-copy.1",
        "pagewise-demo.1",
        "pagewise-doctor.1",
        "pagewise-man.1",
        "pagewise.1",
    ];
    assert_eq!(names, expected);
}

#[test]
fn a_page_that_is_not_there_is_code_two_and_says_which_there_are() {
    let output = run(&["man", "dem"]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0));
    assert!(complaint(&output).contains("pagewise-demo"), "{output:?}");
}
