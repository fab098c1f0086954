//! A real PgBouncer in transaction mode between tandem and Postgres: refused, with the remedy.

mod common;

use common::World;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

struct PgBouncer {
    process: Child,
    port: u16,
}

impl PgBouncer {
    /// `None` without the program, which says so.
    fn start(world: &World, dir: &Path, settings: &str) -> Option<Self> {
        let program =
            ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"].map(PathBuf::from).into_iter().find(|p| p.exists());
        let Some(program) = program else {
            println!("skipped: pgbouncer is not installed (Debian: apt-get install pgbouncer)");
            return None;
        };
        let server = world.db.server();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let users = dir.join("users.txt");
        std::fs::write(&users, format!("\"{}\" \"{}\"\n", server.user(), server.password())).unwrap();
        let ini = dir.join("pgbouncer.ini");
        let text = format!(
            "[databases]\n* = host={} port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nauth_type = scram-sha-256\n\
             auth_file = {}\npool_mode = transaction\nunix_socket_dir =\n{settings}\n",
            server.host(),
            server.port(),
            users.display()
        );
        std::fs::write(&ini, text).unwrap();
        let mut command = Command::new(program);
        if is_root() {
            // It refuses to run as root.
            use std::os::unix::fs::PermissionsExt;
            for path in [dir, &users, &ini] {
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
            }
            command.args(["-u", "nobody"]);
        }
        let process = command.arg(&ini).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let bouncer = Self { process, port };
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(bouncer)
    }

    fn url(&self, world: &World) -> String {
        let server = world.db.server();
        world.db.url().replace(&format!(":{}/", server.port()), &format!(":{}/", self.port))
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn is_root() -> bool {
    // SAFETY: geteuid always succeeds and touches no memory.
    unsafe { libc::geteuid() == 0 }
}

#[test]
fn a_pool_that_hands_out_another_server_process_is_refused_and_nothing_is_changed() {
    let mut world = World::small();
    let dir = common::Dir::new();
    // The oldest idle connection first: each transaction gets another one, once there are two.
    let Some(bouncer) = PgBouncer::start(
        &world,
        dir.path(),
        "server_round_robin = 1\nmin_pool_size = 3\nignore_startup_parameters = extra_float_digits",
    ) else {
        return;
    };
    let (before, direct) = (world.state(), world.db.url());
    world.set("DATABASE_URL", bouncer.url(&world));
    // The pool has more than one connection only after it was asked for more than one at once.
    let busy: Vec<_> = (0..3)
        .map(|_| {
            let url = bouncer.url(&world);
            std::thread::spawn(move || common::query(&url, "select pg_sleep(0.5)::text"))
        })
        .collect();
    busy.into_iter().for_each(|thread| drop(thread.join().unwrap()));
    world.start(&["true"]).expect(78).says(&["transaction mode", "TANDEM_DATABASE_URL"]);
    assert_eq!(world.state(), before);
    world.set("TANDEM_DATABASE_URL", direct);
    world.start(&["true"]).expect(0);
}

#[test]
fn a_start_at_head_through_a_pool_needs_no_session_and_works() {
    let mut world = World::small();
    world.start(&["true"]).expect(0);
    let dir = common::Dir::new();
    let Some(bouncer) = PgBouncer::start(&world, dir.path(), "server_round_robin = 1\nmin_pool_size = 3")
    else {
        return;
    };
    world.set("DATABASE_URL", bouncer.url(&world));
    world.start(&["true"]).expect(0).says(&["unchanged since their last proof"]);
}
