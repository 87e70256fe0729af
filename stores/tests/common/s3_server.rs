//! A real S3 server: that of the crate s3s-fs.
#![allow(dead_code)] // some are for tests

use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;

use pagewise_stores::object_store::ObjectStore as Client;

use super::running::{Folder, Server, free_ports, program, until};

/// A server with a bucket.
pub struct S3 {
    folder: Folder,
    pub port: u16,
    server: Option<Server>,
}

impl S3 {
    /// Starts a server with a bucket. `None` where there is no program for it.
    pub fn start(name: &str) -> Option<Self> {
        program("PAGEWISE_TEST_S3_SERVER")?;
        let folder = Folder::new(name);
        std::fs::create_dir_all(folder.0.join("bucket")).unwrap();
        let mut this = Self { folder, port: free_ports(1)[0], server: None };
        this.go_on();
        Some(this)
    }

    pub fn go_on(&mut self) {
        let mut command = Command::new(program("PAGEWISE_TEST_S3_SERVER").unwrap());
        command.args(["--host", "127.0.0.1", "--port", &self.port.to_string()]);
        command.args(["--access-key", "tester", "--secret-key", SECRET]).arg(&self.folder.0);
        self.server = Some(Server::start(command, &self.folder.0));
        until("the S3 server listens", || TcpStream::connect(("127.0.0.1", self.port)).is_ok());
    }

    pub fn stop(&mut self) {
        self.server = None;
    }

    pub fn client(&self) -> Arc<dyn Client> {
        s3_client(self.port)
    }
}

pub const SECRET: &str = "a secret of this test";

/// A client of an S3 server on this machine, without retries of its own.
pub fn s3_client(port: u16) -> Arc<dyn Client> {
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
    Arc::new(client.unwrap())
}
