//! What `make test` has prepared.

use std::path::PathBuf;

/// Places and names that `integration/test.sh` hands over.
#[derive(Debug, Clone)]
pub(crate) struct Environment {
    /// Administrator of the test cluster.
    pub(crate) kubeconfig: PathBuf,
    /// Folder of `kubectl`, `helm`, `grpcurl`.
    pub(crate) programs: PathBuf,
    /// The binary `upm`.
    pub(crate) upm: PathBuf,
    /// The agent's image.
    pub(crate) agent_image: String,
    /// The unit agent's image.
    pub(crate) unit_agent_image: String,
    /// Prefix of the database images.
    pub(crate) image_prefix: String,
    /// Address of this machine as the pods see it.
    pub(crate) host: String,
    /// Root of the repository.
    pub(crate) root: PathBuf,
}

impl Environment {
    pub(crate) fn read() -> Self {
        let get = |name: &str| {
            std::env::var(name).unwrap_or_else(|_| {
                panic!("{name} is not set: these tests need the test cluster; run `make test`")
            })
        };
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .expect("the manifest lies in integration/")
            .to_owned();
        Self {
            kubeconfig: get("UPM_TEST_KUBECONFIG").into(),
            programs: get("UPM_TEST_BIN").into(),
            upm: root.join("target/debug/upm"),
            agent_image: get("UPM_TEST_AGENT_IMAGE"),
            unit_agent_image: get("UPM_TEST_UNIT_AGENT_IMAGE"),
            image_prefix: get("UPM_TEST_IMAGE_PREFIX"),
            host: get("UPM_TEST_HOST_ADDRESS"),
            root,
        }
    }
}
