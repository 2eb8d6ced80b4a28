//! Folders of deployments that end with their test.

/// An empty folder that PostgreSQL's user can enter, too: as root, servers run as another user.
pub fn folder() -> tempfile::TempDir {
    let mut builder = tempfile::Builder::new();
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755));
    builder.tempdir().expect("a folder")
}
