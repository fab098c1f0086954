//! The images. No registry can be reached from everywhere, so stand-ins are made under the official names, unless the engine
//! has the official ones already.

use crate::docker::{LABEL, attempt, build, command, docker, exists, inspect, succeeds};
use local_servers::{PgVersion, QdrantVersion};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

pub const POSTGRES: &str = "postgres:16-alpine";
/// The version that the compose files name, and the one after it, which `QDRANT_VERSION` asks for.
pub const QDRANT: &str = "qdrant/qdrant:v1.16.3";
pub const NEXT_QDRANT: (&str, &str) = ("v1.17.0", "qdrant/qdrant:v1.17.0");
/// The quickstart's bot behind tandem.
pub const BOT: &str = "tandem-quickstart:test";
/// tandem by itself.
pub const ALONE: &str = "tandem:test";
/// A Debian with the documented two lines.
pub const MIRROR: &str = "tandem-test/mirror";

const DEBIAN: &str = "tandem-test/debian";
const LIBC: &str = "tandem-test/libc";
const RUST: &str = "tandem-test/rust";

/// Whether the programs are static, on nothing at all, as they are shipped.
static IS_STATIC: OnceLock<bool> = OnceLock::new();

pub fn is_static() -> bool {
    IS_STATIC.get().copied().unwrap_or_default()
}

/// What the shipped Dockerfile and compose files take from the environment: how to build without a network.
/// `TANDEM_PROFILE=release` is for figures; it takes minutes.
pub fn build_variables() -> [(&'static str, String); 4] {
    let profile = std::env::var("TANDEM_PROFILE").unwrap_or("dev".into());
    [
        ("TANDEM_TAG", "test".into()),
        ("TANDEM_BUILDER", RUST.into()),
        ("TANDEM_BASE", if is_static() { "scratch" } else { LIBC }.into()),
        ("TANDEM_PROFILE", profile),
    ]
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn here(name: &str) -> PathBuf {
    root().join("tests/containers").join(name)
}

/// Makes whatever is missing, once for all tests.
pub fn make() {
    static MADE: OnceLock<()> = OnceLock::new();
    MADE.get_or_init(|| {
        let (code, text) = attempt(&["info"]);
        assert_eq!(code, 0, "no Docker Engine answers; tests/containers/engine starts one\n{text}");
        clear();
        debian();
        build(LIBC, &here("libc.Dockerfile"), &[], &[]);
        servers();
        let dynamic = rust();
        let builder = musl(&dynamic);
        IS_STATIC.get_or_init(|| builder.is_some());
        docker(&["tag", &builder.unwrap_or(dynamic), RUST]);
        shipped();
        build(MIRROR, &here("mirror.Dockerfile"), &[(&root().join("migrations"), "migrations")], &[]);
    });
}

/// Removes what an interrupted run left.
fn clear() {
    let label = format!("label={LABEL}");
    for id in docker(&["ps", "--all", "--quiet", "--filter", &label]).lines() {
        attempt(&["rm", "--force", "--volumes", id]);
    }
    for id in docker(&["network", "ls", "--quiet", "--filter", &label]).lines() {
        attempt(&["network", "rm", id]);
    }
}

fn debian() {
    if exists("image", DEBIAN) {
        return;
    }
    eprintln!("making a Debian base with debootstrap, once for this engine");
    let directory = std::env::temp_dir().join(local_servers::unique_name("tandem-debian"));
    let packages = "--include=ca-certificates,gcc,libc6-dev";
    succeeds(Command::new("debootstrap").args(["--variant=minbase", packages, "bookworm"]).arg(&directory));
    let mut packed = Command::new("tar")
        .args(["--create", "--one-file-system", "--numeric-owner", "--directory"])
        .arg(&directory)
        .arg(".")
        .stdout(Stdio::piped())
        .spawn()
        .expect("tar");
    succeeds(command(&["import", "-", DEBIAN]).stdin(packed.stdout.take().unwrap()));
    assert!(packed.wait().unwrap().success());
    std::fs::remove_dir_all(directory).unwrap();
}

/// The servers. An image of the name that is not of this making is the official one, and better.
fn servers() {
    let ours = |name: &str| {
        !exists("image", name) || docker(&["inspect", "--format", "{{.Config.Labels}}", name]).contains(LABEL)
    };
    if ours(POSTGRES) {
        let native = PgVersion::V16.directory().expect("Postgres' programs");
        let entrypoint = here("postgres/docker-entrypoint.sh");
        let context = [(native.as_path(), "native"), (entrypoint.as_path(), "docker-entrypoint.sh")];
        build(POSTGRES, &here("postgres/Dockerfile"), &context, &[]);
    }
    for (name, version) in [(QDRANT, QdrantVersion::V1_16_3), (NEXT_QDRANT.1, QdrantVersion::V1_17_0)] {
        if ours(name) {
            let program = version.program().expect("Qdrant's program");
            build(name, &here("qdrant/Dockerfile"), &[(&program, "qdrant")], &[]);
        }
    }
}

/// The builder, under a tag that says what it was made of.
fn rust() -> String {
    let output = |command: &mut Command| succeeds(command.current_dir(root()));
    let version = output(Command::new("rustc").arg("--version"));
    let lock = std::fs::read(root().join("Cargo.lock")).unwrap();
    let image = format!("{RUST}:{}", digest(&[version.as_bytes(), &lock]));
    if exists("image", &image) {
        return image;
    }
    eprintln!("making the builder image, once for this toolchain and these crates");
    let sysroot = PathBuf::from(output(Command::new("rustc").args(["--print", "sysroot"])));
    let directory = std::env::temp_dir().join(local_servers::unique_name("tandem-rust"));
    std::fs::create_dir_all(directory.join("bin")).unwrap();
    for program in ["rustc", "cargo"] {
        std::fs::copy(sysroot.join("bin").join(program), directory.join("bin").join(program)).unwrap();
    }
    let crates = directory.join("crates");
    output(Command::new("cargo").args(["vendor", "--quiet", "--locked", "--versioned-dirs"]).arg(&crates));
    let config = directory.join("config.toml");
    let text = "[source.crates-io]\nreplace-with = \"crates\"\n[source.crates]\ndirectory = \"/crates\"\n";
    std::fs::write(&config, text).unwrap();
    let (bin, lib) = (directory.join("bin"), sysroot.join("lib"));
    let context = [
        (bin.as_path(), "bin"),
        (lib.as_path(), "lib"),
        (crates.as_path(), "crates"),
        (config.as_path(), "config.toml"),
    ];
    build(&image, &here("rust/Dockerfile"), &context, &[]);
    std::fs::remove_dir_all(directory).unwrap();
    image
}

/// The builder with a standard library for musl, if one can be had.
fn musl(dynamic: &str) -> Option<String> {
    let files = ["musl", "static.Dockerfile", "static.toml", "cargo"].map(|name| here("rust").join(name));
    let texts = files.clone().map(|file| std::fs::read(file).unwrap());
    let mut parts = vec![dynamic.as_bytes()];
    parts.extend(texts.iter().map(Vec::as_slice));
    let image = format!("{RUST}:static-{}", digest(&parts));
    if exists("image", &image) {
        return Some(image);
    }
    eprintln!("making a standard library for musl, once for this toolchain");
    let directory = std::env::temp_dir().join(local_servers::unique_name("tandem-musl"));
    let [script, dockerfile, settings, cargo] = files;
    let output = Command::new(script).arg(&directory).output().unwrap();
    if !output.status.success() {
        let _ = std::fs::remove_dir_all(directory);
        let why = String::from_utf8_lossy(&output.stderr);
        eprintln!(
            "skipped: static programs on an empty image; they are dynamic, on a C library: {}",
            why.trim()
        );
        return None;
    }
    let (root, library) = (directory.join("root"), directory.join("std"));
    let context = [
        (root.as_path(), "root"),
        (library.as_path(), "std"),
        (settings.as_path(), "static.toml"),
        (cargo.as_path(), "cargo"),
    ];
    let argument = format!("DYNAMIC={dynamic}");
    build(&image, &dockerfile, &context, &["--build-arg", &argument]);
    std::fs::remove_dir_all(directory).unwrap();
    Some(image)
}

fn digest(parts: &[&[u8]]) -> String {
    let made_of = parts.iter().fold(Sha256::new(), |sum, part| sum.chain_update(part)).finalize();
    made_of.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// The two images of the shipped Dockerfile, really compiled in it. What is inside the layers decides whether they are made anew.
fn shipped() {
    let arguments = build_variables().map(|(name, value)| format!("{}={value}", &name["TANDEM_".len()..]));
    for (target, tag) in [("quickstart", BOT), ("tandem", ALONE)] {
        let mut docker = command(&["build", "--quiet", "--tag", tag, "--target", target]);
        for argument in &arguments[1..] {
            docker.args(["--build-arg", argument]);
        }
        succeeds(docker.arg(root()));
        eprintln!("{tag}: {} bytes", inspect(tag, "{{.Size}}"));
    }
}
