//! Makes OCI image archives: the sandbox image that navarch brings along, and the images of tests. No registry, no
//! compression, no files read: what goes in is given in memory.

use sha2::{Digest, Sha256};

/// The program in the sandbox image.
const PAUSE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/pause"));

/// The name under which the sandbox image is kept.
pub const PAUSE_IMAGE: &str = "registry.k8s.io/navarch/pause:1";

/// What an image is made of.
#[derive(Clone, Debug, Default)]
pub struct ImageContent {
    /// Files: absolute path without the leading slash, mode, content. Parent folders are made.
    pub files: Vec<(String, u32, Vec<u8>)>,
    /// Symbolic links: path, target.
    pub links: Vec<(String, String)>,
    /// `Entrypoint`.
    pub entrypoint: Vec<String>,
    /// `Cmd`.
    pub cmd: Vec<String>,
    /// `Env`, as `NAME=value`.
    pub env: Vec<String>,
    /// `User`.
    pub user: String,
    /// `WorkingDir`.
    pub working_dir: String,
    /// Ports in `ExposedPorts`, such as `80/tcp`.
    pub exposed_ports: Vec<String>,
}

/// The sandbox image.
pub fn pause_image() -> Vec<u8> {
    let content = ImageContent {
        files: vec![("pause".into(), 0o755, PAUSE.to_vec())],
        entrypoint: vec!["/pause".into()],
        user: "65535:65535".into(),
        ..ImageContent::default()
    };
    build_oci_tar(PAUSE_IMAGE, &content)
}

/// An OCI layout in a tar file, which `ctr images import` takes, with one image of one layer under a full name
/// (`docker.io/library/web:1`).
pub fn build_oci_tar(name: &str, content: &ImageContent) -> Vec<u8> {
    let layer = layer(content);
    let layer_digest = digest(&layer);
    let ports: serde_json::Map<String, serde_json::Value> =
        content.exposed_ports.iter().map(|port| (port.clone(), serde_json::json!({}))).collect();
    let config = serde_json::json!({
        "architecture": architecture(),
        "os": "linux",
        "config": {
            "Entrypoint": content.entrypoint, "Cmd": content.cmd, "Env": content.env, "User": content.user,
            "WorkingDir": content.working_dir, "ExposedPorts": ports,
        },
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer_digest}")]},
        "history": [{"created_by": "navarch"}],
    });
    let config = config.to_string().into_bytes();
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
    });
    let manifest = manifest.to_string().into_bytes();
    let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
    entry["annotations"] =
        serde_json::json!({"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name});
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [entry]}).to_string().into_bytes();

    let mut tar = Tar::default();
    tar.file("oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#);
    tar.file("index.json", 0o644, &index);
    tar.folder("blobs/");
    tar.folder("blobs/sha256/");
    for blob in [&manifest, &config, &layer] {
        tar.file(&format!("blobs/sha256/{}", digest(blob)), 0o644, blob);
    }
    tar.finish()
}

/// The processor as OCI names it.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn layer(content: &ImageContent) -> Vec<u8> {
    let mut folders = std::collections::BTreeSet::new();
    let paths = content.files.iter().map(|(path, ..)| path).chain(content.links.iter().map(|(path, _)| path));
    for path in paths {
        for (at, _) in path.match_indices('/') {
            folders.insert(path[..=at].to_owned());
        }
    }
    let mut tar = Tar::default();
    for folder in folders {
        tar.folder(&folder);
    }
    for (path, mode, bytes) in &content.files {
        tar.file(path, *mode, bytes);
    }
    for (path, target) in &content.links {
        tar.link(path, target);
    }
    tar.finish()
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn descriptor(media_type: &str, bytes: &[u8]) -> serde_json::Value {
    serde_json::json!({"mediaType": media_type, "digest": format!("sha256:{}", digest(bytes)), "size": bytes.len()})
}

/// A ustar writer: root owns everything, and every time is zero, so that equal content gives equal bytes.
#[derive(Default)]
struct Tar {
    out: Vec<u8>,
}

const BLOCK: usize = 512;

impl Tar {
    fn file(&mut self, path: &str, mode: u32, bytes: &[u8]) {
        self.header(path, mode, bytes.len(), b'0', "");
        self.out.extend_from_slice(bytes);
        self.pad();
    }

    fn folder(&mut self, path: &str) {
        self.header(path, 0o755, 0, b'5', "");
    }

    fn link(&mut self, path: &str, target: &str) {
        self.header(path, 0o777, 0, b'2', target);
    }

    fn pad(&mut self) {
        self.out.resize(self.out.len().div_ceil(BLOCK) * BLOCK, 0);
    }

    fn header(&mut self, path: &str, mode: u32, size: usize, kind: u8, target: &str) {
        let mut block = [0_u8; BLOCK];
        let mut put = |at: usize, text: &str, width: usize| {
            let bytes = &text.as_bytes()[..text.len().min(width)];
            block[at..at + bytes.len()].copy_from_slice(bytes);
        };
        put(0, path, 100);
        put(100, &format!("{mode:07o}"), 8);
        put(108, "0000000", 8);
        put(116, "0000000", 8);
        put(124, &format!("{size:011o}"), 12);
        put(136, "00000000000", 12);
        put(148, "        ", 8);
        put(157, target, 100);
        put(257, "ustar", 6);
        put(263, "00", 2);
        block[156] = kind;
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        let text = format!("{sum:06o}\0 ");
        block[148..156].copy_from_slice(text.as_bytes());
        self.out.extend_from_slice(&block);
    }

    fn finish(mut self) -> Vec<u8> {
        self.out.resize(self.out.len() + 2 * BLOCK, 0);
        self.out
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn archive_lists_with_the_system_tar_and_is_the_same_every_time() {
        let content = ImageContent {
            files: vec![("bin/busybox".into(), 0o755, vec![1; 700]), ("www/index.html".into(), 0o644, b"hi".to_vec())],
            links: vec![("bin/sh".into(), "busybox".into())],
            ..ImageContent::default()
        };
        assert_eq!(build_oci_tar("docker.io/library/t:1", &content), build_oci_tar("docker.io/library/t:1", &content));
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("layer.tar");
        std::fs::write(&file, layer(&content)).unwrap();
        let out = std::process::Command::new("tar").arg("tvf").arg(&file).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let text = String::from_utf8(out.stdout).unwrap();
        assert_eq!(text.lines().count(), 5, "{text}");
        assert!(text.contains("bin/sh -> busybox"), "{text}");
    }
}
