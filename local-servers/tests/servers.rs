//! Real servers: shared, one's own, stopped, killed, paused, and ended with their users.

use local_servers::{Postgres, PostgresOptions, Qdrant, QdrantVersion};

#[test]
fn databases_on_the_shared_postgres_are_apart() {
    let pg = local_servers::postgres();
    let (one, two) = (pg.create_database("apart"), pg.create_database("apart"));
    one.execute("create table only_here (id int)");
    assert!(pg.execute(one.name(), "select * from only_here").is_ok());
    assert!(pg.execute(two.name(), "select * from only_here").is_err());
    let name = one.name().to_owned();
    drop(one);
    assert!(pg.execute(&name, "select 1").is_err(), "the database outlived its value");
}

#[test]
fn a_shared_server_is_one_server_for_all() {
    let ports: Vec<u16> = (0..4)
        .map(|_| std::thread::spawn(|| local_servers::postgres().port()))
        .map(|t| t.join().unwrap())
        .collect();
    assert!(ports.iter().all(|port| *port == ports[0]), "{ports:?}");
    assert_eq!(
        local_servers::qdrant().grpc_port(),
        Qdrant::shared(QdrantVersion::default()).unwrap().grpc_port()
    );
}

#[test]
fn postgres_stops_restarts_and_recovers_with_its_data() {
    let mut pg = Postgres::start(PostgresOptions { durable: true, ..Default::default() }).unwrap();
    let port = pg.port();
    pg.execute("postgres", "create table kept (id int); insert into kept values (1)").unwrap();
    pg.stop().unwrap();
    assert!(pg.execute("postgres", "select 1").is_err());
    pg.restart().unwrap();
    pg.kill9().unwrap();
    assert!(pg.execute("postgres", "select 1").is_err());
    pg.restart().unwrap();
    assert_eq!(pg.port(), port);
    pg.execute("postgres", "do $$ begin assert (select count(*) from kept) = 1; end $$").unwrap();
    assert!(pg.log().contains("automatic recovery in progress"), "{}", pg.log());
}
