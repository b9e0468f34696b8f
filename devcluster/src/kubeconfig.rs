//! Writes kubeconfig files for the programs of a cluster and for its users.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde_json::json;

use crate::pki::Authority;

/// Writes a kubeconfig that speaks for the certificate `user`. JSON, which every reader of YAML accepts.
pub(crate) fn write(path: &Path, server: &str, user: &str, authority: &Authority) -> io::Result<PathBuf> {
    let content = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "devcluster", "cluster": {
            "server": server,
            "certificate-authority": authority.certificate("ca"),
        }}],
        "users": [{"name": user, "user": {
            "client-certificate": authority.certificate(user),
            "client-key": authority.key(user),
        }}],
        "contexts": [{"name": "devcluster", "context": {"cluster": "devcluster", "user": user}}],
        "current-context": "devcluster",
    });
    fs::write(path, format!("{content:#}\n"))?;
    Ok(path.to_owned())
}
