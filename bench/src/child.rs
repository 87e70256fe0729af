//! Runs a program for a limited time, and reads all that it prints.

use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use wait_timeout::ChildExt;

/// What became of a program.
pub enum Ended {
    /// It ended by itself.
    Exited { status: ExitStatus, said: String, cried: String },
    /// It was ended after this time.
    GivenUp(Duration),
}

/// Runs a command. Both of its pipes are read while it runs: a program that prints more than a pipe holds would wait
/// for ever otherwise.
pub fn run(command: &mut Command, patience: Duration) -> std::io::Result<Ended> {
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let (said, cried) = (drain(child.stdout.take()), drain(child.stderr.take()));
    let Some(status) = child.wait_timeout(patience)? else {
        end(child);
        return Ok(Ended::GivenUp(patience));
    };
    Ok(Ended::Exited { status, said: text(said), cried: text(cried) })
}

fn end(mut child: Child) {
    // It may have ended by itself at this moment: then killing it fails, which is no error.
    let _ = child.kill();
    let _ = child.wait();
}

fn drain(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // An incomplete output cannot be parsed, which is reported.
            let _ = pipe.read_to_end(&mut bytes);
        }
        bytes
    })
}

fn text(drained: JoinHandle<Vec<u8>>) -> String {
    String::from_utf8_lossy(&drained.join().unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOUT: &str = "PAGEWISE_BENCH_TEST_SHOUTS";
    const MUCH: usize = 4 << 20;

    /// The program of these tests, which runs one of them.
    fn this(test: &str, value: &str) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([&format!("child::tests::{test}"), "--exact", "--nocapture"]);
        command.env(SHOUT, value);
        command
    }

    #[test]
    fn a_program_that_prints_more_than_a_pipe_holds_does_not_wait_for_ever() {
        if std::env::var_os(SHOUT).is_some_and(|value| value == "much") {
            print!("{}", "a".repeat(MUCH));
            eprint!("{}", "b".repeat(MUCH));
            return;
        }
        let name = "a_program_that_prints_more_than_a_pipe_holds_does_not_wait_for_ever";
        match run(&mut this(name, "much"), Duration::from_secs(120)).unwrap() {
            Ended::Exited { said, cried, .. } => {
                assert!(said.matches('a').count() >= MUCH);
                assert!(cried.matches('b').count() >= MUCH);
            }
            Ended::GivenUp(_) => panic!("it waited for its pipes"),
        }
    }

    #[test]
    fn a_program_that_does_not_end_is_given_up() {
        if std::env::var_os(SHOUT).is_some_and(|value| value == "sleep") {
            std::thread::sleep(Duration::from_secs(600));
            return;
        }
        let name = "a_program_that_does_not_end_is_given_up";
        let ended = run(&mut this(name, "sleep"), Duration::from_millis(200)).unwrap();
        assert!(matches!(ended, Ended::GivenUp(_)));
    }
}
