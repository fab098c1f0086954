//! What is in the image, and what it says of itself.

use crate::docker::{Container, LABEL, docker, inspect};
use crate::images::{self, ALONE};
use std::process::{Command, Stdio};

#[test]
#[ignore = "needs a Docker Engine: tests/containers/engine"]
fn the_image_is_the_binary_and_a_ca_bundle() {
    images::make();
    let container = Container(local_servers::unique_name("image"));
    docker(&["create", "--label", LABEL, "--name", &container.0, ALONE]);
    let mut export =
        crate::docker::command(&["export", &container.0]).stdout(Stdio::piped()).spawn().unwrap();
    let list = crate::docker::succeeds(Command::new("tar").arg("-t").stdin(export.stdout.take().unwrap()));
    assert!(export.wait().unwrap().success());
    // What an engine mounts has its places; a C library is there only where the programs need one.
    let engine =
        [".dockerenv", "dev/", "proc/", "sys/", "etc/hostname", "etc/hosts", "etc/mtab", "etc/resolv.conf"];
    let base = if images::is_static() { &[][..] } else { &["lib64/", "lib/"] };
    let files: Vec<&str> = list
        .lines()
        .filter(|file| !file.ends_with('/'))
        .filter(|file| !engine.iter().chain(base).any(|other| file.starts_with(other)))
        .collect();
    assert_eq!(files, ["etc/ssl/certs/ca-certificates.crt", "tandem"]);
    assert_eq!(inspect(ALONE, "{{.Config.User}} {{.Config.Entrypoint}}"), "65532:65532 [/tandem]");
    let label = |name: &str| {
        inspect(ALONE, &format!("{{{{index .Config.Labels \"org.opencontainers.image.{name}\"}}}}"))
    };
    assert_eq!(label("version"), env!("CARGO_PKG_VERSION"));
    assert_eq!(label("licenses"), env!("CARGO_PKG_LICENSE"));
    assert_eq!(label("description"), env!("CARGO_PKG_DESCRIPTION"));
    for name in ["title", "revision", "created", "source", "documentation"] {
        assert!(!label(name).is_empty(), "{name}");
    }
    assert_eq!(
        docker(&["run", "--rm", "--label", LABEL, ALONE, "version"]),
        concat!("tandem ", env!("CARGO_PKG_VERSION"))
    );
}
