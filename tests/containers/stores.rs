//! A Postgres and a Qdrant in containers of their own, shared by the tests that start single containers beside them.

use crate::docker::{LABEL, address, docker, get, until};
use crate::images;
use local_servers::{Postgres, unique_name};
use std::sync::OnceLock;

pub const PASSWORD: &str = "not-a-published-one";
pub const API_KEY: &str = "the-key";

pub struct Stores {
    pub network: String,
    pub postgres: Postgres,
}

/// The shared pair. On its network the servers are called `postgres` and `qdrant`.
pub fn stores() -> &'static Stores {
    static STORES: OnceLock<Stores> = OnceLock::new();
    STORES.get_or_init(|| {
        images::make();
        let network = unique_name("tandem-test");
        docker(&["network", "create", "--label", LABEL, &network]);
        let run = |alias: &str, variable: &str, image: &str| {
            let name = unique_name(alias);
            let on = ["--network", network.as_str(), "--network-alias", alias];
            let mut all = vec!["run", "--detach", "--label", LABEL, "--name", name.as_str()];
            all.extend(on);
            all.extend(["--env", variable, image]);
            docker(&all);
            address(&name)
        };
        let postgres = run("postgres", &format!("POSTGRES_PASSWORD={PASSWORD}"), images::POSTGRES);
        let qdrant = run("qdrant", &format!("QDRANT__SERVICE__API_KEY={API_KEY}"), images::QDRANT);
        let url = format!("postgres://postgres:{PASSWORD}@{postgres}:5432");
        let stores = Stores { network, postgres: Postgres::at(&url).unwrap() };
        until(
            || {
                stores.postgres.execute("postgres", "select 1").is_ok()
                    && get(&qdrant, 6333, "/readyz").is_some()
            },
            || "the stores do not answer".into(),
        );
        stores
    })
}

impl Stores {
    /// One value as text.
    pub fn query(&self, database: &str, sql: &str) -> String {
        crate::common::query(&self.postgres.url_as("postgres", PASSWORD, database), sql)
    }

    /// A new empty database, and the arguments of `docker run` that point a container at it.
    pub fn database(&self, name: &str) -> (String, Vec<String>) {
        let database = unique_name(name);
        self.postgres.execute("postgres", &format!("create database {database}")).unwrap();
        let mut arguments = vec!["--network".to_owned(), self.network.clone()];
        for variable in [
            "POSTGRES_HOST=postgres",
            "POSTGRES_USER=postgres",
            &format!("POSTGRES_PASSWORD={PASSWORD}"),
            &format!("POSTGRES_DB={database}"),
            "QDRANT_HOST=qdrant",
            &format!("QDRANT_API_KEY={API_KEY}"),
            &format!("QDRANT_COLLECTION_NAME={database}"),
        ] {
            arguments.extend(["--env".to_owned(), variable.to_owned()]);
        }
        (database, arguments)
    }
}
