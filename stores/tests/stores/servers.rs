//! Real servers, which run as long as a test has them.
#![allow(dead_code)] // some are for features

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

/// The program of a server, where a variable says where it is: `ci/stores` sets it.
pub fn program(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).map(PathBuf::from)
}

/// Servers that a plain run of the tests does not have are reported, not tested.
#[test]
fn real_servers_are_there() {
    for (variable, what) in [
        ("PAGEWISE_TEST_REDIS_SERVER", "a Redis Cluster (ci/stores starts one)"),
        ("PAGEWISE_TEST_S3_SERVER", "an S3 server (ci/stores starts one)"),
    ] {
        if program(variable).is_none() {
            crate::not_here::not_here(what);
        }
    }
    // Whoever names an S3 server wants its tests.
    let named = program("PAGEWISE_TEST_S3_SERVER").is_some();
    assert!(!named || cfg!(feature = "aws"), "the tests with an S3 server need the feature aws");
}

/// Ports that nobody listens to now, and that no other test of this process is given. Below those that the system gives
/// to outgoing connections: one of these could take a port before its server does.
pub fn free_ports(count: usize) -> Vec<u16> {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().unwrap();
    let mut ports = Vec::new();
    while ports.len() < count {
        let port = fastrand::u16(10_000..32_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() && given.insert(port) {
            ports.push(port);
        }
    }
    ports
}

/// A folder that is gone when this is dropped.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("pagewise-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A running server. It is killed when this is dropped, and when the thread ends that started it.
pub struct Server(Child);

impl Server {
    pub fn start(mut command: Command, folder: &Path) -> Self {
        command
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        #[cfg(target_os = "linux")]
        {
            use std::os::unix::process::CommandExt;
            // SAFETY: a plain system call, between fork and exec.
            unsafe {
                command.pre_exec(|| {
                    libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                    Ok(())
                });
            }
        }
        Self(command.spawn().expect("the server starts"))
    }

    pub fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    #[cfg(unix)]
    pub fn signal(&self, signal: i32) {
        // SAFETY: a plain call, for a child that was not waited for.
        assert_eq!(unsafe { libc::kill(self.0.id() as i32, signal) }, 0);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Waits until something is so.
#[track_caller]
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..1200 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("for a minute, it was not so: {what}");
}

#[cfg(feature = "aws")]
pub const SECRET: &str = "a secret of this test";

/// A client of an S3 server on this machine, without retries of its own.
#[cfg(feature = "aws")]
pub fn s3_client(port: u16) -> std::sync::Arc<dyn crate::Client> {
    use pagewise_stores::object_store::{ClientOptions, RetryConfig, aws::AmazonS3Builder};
    let no_retries = RetryConfig { max_retries: 0, ..RetryConfig::default() };
    // On a connection that is used again, this server's answers wait 40 ms for an acknowledgement.
    let options = ClientOptions::new().with_pool_max_idle_per_host(0).with_allow_http(true);
    let client = AmazonS3Builder::new()
        .with_endpoint(format!("http://127.0.0.1:{port}"))
        .with_region("here")
        .with_bucket_name("bucket")
        .with_access_key_id("tester")
        .with_secret_access_key(SECRET)
        .with_client_options(options)
        .with_retry(no_retries)
        .build();
    std::sync::Arc::new(client.unwrap())
}
