//! The images that tests run, made from programs of this machine: no registry is asked.

use std::path::Path;

use navarch_kubelet::image::{ImageContent, build_oci_tar};

/// Applets that the application uses, each a link to busybox.
const APPLETS: &[&str] = &[
    "sh", "cat", "cp", "mkdir", "chmod", "sleep", "httpd", "wget", "echo", "ls", "true", "false", "nslookup",
    "hostname", "env", "kill", "date", "id", "head", "tail", "seq", "dd", "touch", "test", "printf", "grep", "ps",
    "nc", "rm", "stat", "tar", "tty", "stty",
];

/// Writes the images' archives into a folder.
///
/// # Panics
/// If a program is missing or the folder cannot be written.
pub fn preload(folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    let busybox = std::fs::read("/bin/busybox").expect("busybox-static is installed");
    let mut content = ImageContent {
        files: vec![("bin/busybox".to_owned(), 0o755, busybox)],
        links: APPLETS.iter().map(|applet| (format!("bin/{applet}"), "/bin/busybox".to_owned())).collect(),
        env: vec!["PATH=/bin".to_owned()],
        cmd: vec!["sh".to_owned()],
        ..ImageContent::default()
    };
    write(folder, "docker.io/shop/busybox:1", &content);
    content.files.push(("bin/kubectl".to_owned(), 0o755, std::fs::read(static_kubectl()).unwrap()));
    write(folder, "docker.io/shop/kubectl:1", &content);
}

fn write(folder: &Path, name: &str, content: &ImageContent) {
    let file = folder.join(name.replace(['/', ':'], "-") + ".tar");
    std::fs::write(file, build_oci_tar(name, content)).unwrap();
}

/// The kubectl of this machine; where that is a dispatcher with the real ones beside it, the newest of those.
fn static_kubectl() -> std::path::PathBuf {
    let mut all = crate::kubectl::every_kubectl();
    let first = all.pop();
    all.pop().or(first).expect("kubectl is installed")
}
