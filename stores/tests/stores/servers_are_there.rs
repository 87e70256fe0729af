//! Which servers these tests have.

use crate::running::program;

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
