//! A disk that is full at any place of a rebuild: the run says so and ends, no point is lost, and with room again the next
//! start ends at the declared schema. A file system of its own needs root; elsewhere the test says that it did not run.

mod common;

use common::points::{create, info, names, points, put, rest};
use common::{Dir, World};
use local_servers::{Qdrant, QdrantOptions, QdrantVersion};
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;
use std::process::Command;

const MIB: usize = 1 << 20;

/// Of the file system.
const SIZE: usize = 160;

/// A small file system in a file, unmounted with the value.
struct Disk {
    image: Dir,
    mounted: Dir,
}

impl Disk {
    fn mount() -> Option<Self> {
        let disk = Self { image: Dir::new(), mounted: Dir::new() };
        let image = disk.image.path().join("image");
        std::fs::File::create(&image).unwrap().set_len((SIZE * MIB) as u64).unwrap();
        let make = "mkfs.ext4 -q -F -m 0 \"$0\" && mount -o loop \"$0\" \"$1\" && chmod 1777 \"$1\"";
        let made = Command::new("sh").args(["-c", make]).arg(&image).arg(disk.path()).output().unwrap();
        if made.status.success() {
            return Some(disk);
        }
        println!(
            "not run: a full disk needs a file system of its own, which root can mount: {}",
            common::text(&made)
        );
        None
    }

    fn path(&self) -> &Path {
        self.mounted.path()
    }

    /// Lets a file take all but this much.
    fn leave(&self, mib: usize) {
        let path = self.path().join("ballast");
        let _ = std::fs::remove_file(&path);
        let mut file = std::fs::File::create(path).unwrap();
        while file.write_all(&[1; MIB / 4]).is_ok() {}
        let full = file.metadata().unwrap().len();
        file.set_len(full.saturating_sub((mib * MIB) as u64)).unwrap();
    }

    fn empty(&self) {
        std::fs::remove_file(self.path().join("ballast")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

fn full(version: QdrantVersion, alias: bool) {
    let Some(disk) = Disk::mount() else { return };
    let file = |name: &str| disk.path().join(name).display().to_string();
    let env = [("STORAGE", file("storage")), ("SNAPSHOTS", file("snapshots"))]
        .map(|(name, path)| (format!("QDRANT__STORAGE__{name}_PATH"), path));
    let mut server = Qdrant::start(QdrantOptions { version, env: env.into(), ..Default::default() }).unwrap();
    let mut world = World::on(local_servers::postgres().create_database("full"), server.with_api_key(None));
    world.set("TANDEM_TIMEOUT", "1s");
    let declared = "compatible_from = 1\n[[collection]]\nmatch = \"${QDRANT_COLLECTION_NAME}\"\nensure = [\"${QDRANT_COLLECTION_NAME}\"]\n\
                    vectors.content = { size = 64, distance = 'Cosine' }\nvectors.more = { size = 2, distance = 'Dot' }\n\
                    payload_indexes = { n = 'integer' }\n";
    world.version("0001_users", "create table users (id bigint primary key);\n", declared);
    world.record();
    let name = world.collection.clone();
    let real = if alias { format!("{name}_7d") } else { name.clone() };
    let vectors = json!({ "content": { "size": 64, "distance": "Cosine" } });
    create(&world, &real, &json!({ "vectors": vectors, "wal_config": { "wal_capacity_mb": 1 } }));
    if alias {
        let lead = json!({ "create_alias": { "collection_name": real, "alias_name": name } });
        rest(&world, "POST", "/collections/aliases", &json!({ "actions": [lead] }));
    }
    // Text that compression makes little of.
    let text = |n: u64| {
        (0..150)
            .map(|i| format!("{:x}", (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(i)))
            .collect::<String>()
    };
    let all: Vec<Value> = (0..2000u64)
        .map(|n| json!({ "id": n, "vector": { "content": (1..=64).map(|i| (n * i) % 97 + 1).collect::<Vec<_>>() }, "payload": { "n": n, "text": text(n) } }))
        .collect();
    put(&world, &real, &all);
    let before = points(&world, &real);
    assert_eq!(before.len(), all.len());
    let mut said = String::new();
    for left in [1, 3, 6, 9, 12, 16, 20, 25, 30, 40, 60] {
        disk.leave(left);
        let ran = world.start(&["true"]);
        if ran.code == 0 {
            break;
        }
        said.push_str(&ran.stderr);
        disk.empty();
        // A server may not survive it.
        server.restart().unwrap();
        if names(&world).contains(&real) && info(&world, &real)["config"]["metadata"]["tandem"].is_null() {
            assert_eq!(points(&world, &real), before, "{left} MiB left: {}", ran.stderr);
        }
    }
    assert!(said.contains("make room on Qdrant's disk"), "{said}");
    world.start(&["true"]).expect(0);
    assert_eq!(points(&world, &name), before);
    assert_eq!(info(&world, &name)["config"]["params"]["vectors"]["more"]["size"], 2);
    assert_eq!(info(&world, &name)["config"]["metadata"]["tandem"]["role"], "live");
}

#[test]
fn a_full_disk_costs_a_rebuild_under_its_own_name_no_point() {
    QdrantVersion::ALL.into_iter().for_each(|version| full(version, false));
}

#[test]
fn a_full_disk_costs_a_rebuild_behind_an_alias_no_point() {
    QdrantVersion::ALL.into_iter().for_each(|version| full(version, true));
}
