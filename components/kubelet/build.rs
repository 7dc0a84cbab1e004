//! Compiles the runtime's interface definitions and the pause program that goes into the sandbox image.

use std::path::PathBuf;
use std::process::Command;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=pause");
    let descriptors = protox::compile(["proto/cri.proto", "proto/events.proto", "proto/health.proto"], ["proto"])?;
    tonic_prost_build::configure().build_server(false).emit_rerun_if_changed(false).compile_fds(descriptors)?;

    let out = PathBuf::from(std::env::var("OUT_DIR")?).join("pause");
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let status = Command::new(&compiler)
        .args(["-Os", "-static", "-nostdlib", "-nostartfiles", "-ffreestanding", "-fno-stack-protector"])
        .args(["-fno-pie", "-no-pie", "-fno-asynchronous-unwind-tables", "-Wl,--build-id=none", "-s", "-o"])
        .arg(&out)
        .arg("pause/pause.c")
        .status()
        .map_err(|error| format!("cannot run the C compiler {compiler}: {error}"))?;
    if !status.success() {
        return Err(format!("{compiler} could not compile pause/pause.c").into());
    }
    Ok(())
}
