//! The proxy's faults, seen from both sides.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use local_servers::proxy::{Action, Direction, Proxy};

/// A server that returns each byte in upper case, and "END" at the end of what it is sent.
fn upper_case_server() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut byte = [0];
                while let Ok(1) = stream.read(&mut byte) {
                    if stream.write_all(&byte.map(|b| b.to_ascii_uppercase())).is_err() {
                        return;
                    }
                }
                let _ = stream.write_all(b"END");
            });
        }
    });
    address
}

fn connect(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(("127.0.0.1", proxy.port())).unwrap()
}

/// The server's answer to one letter; empty if the connection was closed.
fn ask(stream: &mut TcpStream, letter: u8) -> Vec<u8> {
    let mut answer = vec![0];
    let asked = stream.write_all(&[letter]).and_then(|()| stream.read(&mut answer));
    answer.truncate(asked.unwrap_or(0));
    answer
}

fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text);
    text
}

#[test]
fn everything_is_forwarded_and_counted() {
    let proxy = Proxy::start(upper_case_server()).unwrap();
    let (mut one, mut two) = (connect(&proxy), connect(&proxy));
    assert_eq!(
        (ask(&mut one, b'a'), ask(&mut two, b'b'), ask(&mut one, b'c')),
        (b"A".into(), b"B".into(), b"C".into())
    );
    assert_eq!((proxy.connections(), proxy.client_chunks()), (2, 3));
    one.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(&mut one), b"END", "the end of one direction must leave the other open");
}

#[test]
fn the_hook_sees_each_chunk_before_it_is_forwarded() {
    let proxy = Proxy::start(upper_case_server()).unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    proxy.on_chunk(move |chunk| {
        let text = String::from_utf8_lossy(chunk.bytes).into_owned();
        log.lock().unwrap().push((
            chunk.direction,
            chunk.connection,
            chunk.number,
            chunk.total,
            chunk.client_chunks,
            text,
        ));
        Action::Forward
    });
    let mut one = connect(&proxy);
    ask(&mut one, b'a');
    let mut two = connect(&proxy);
    ask(&mut two, b'b');
    ask(&mut two, b'c');
    use Direction::{ToClient, ToServer};
    let expected = [
        (ToServer, 1, 1, 1, 1, "a"),
        (ToClient, 1, 1, 1, 1, "A"),
        (ToServer, 2, 1, 2, 1, "b"),
        (ToClient, 2, 1, 2, 1, "B"),
        (ToServer, 2, 2, 3, 2, "c"),
        (ToClient, 2, 2, 3, 2, "C"),
    ];
    assert_eq!(*seen.lock().unwrap(), expected.map(|(d, c, n, t, k, text)| (d, c, n, t, k, text.to_owned())));
}

#[test]
fn a_bit_is_flipped_on_the_way() {
    let proxy = Proxy::start(upper_case_server()).unwrap();
    proxy.on_chunk(|chunk| match chunk.direction {
        Direction::ToServer => Action::Flip(0),
        Direction::ToClient => Action::Forward,
    });
    assert_eq!(ask(&mut connect(&proxy), b'b'), b"C");
}

#[test]
fn a_connection_is_cut_before_or_after_a_chunk() {
    for (action, reached) in [(Action::CutBefore, "a"), (Action::CutAfter, "ab")] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Proxy::start(listener.local_addr().unwrap()).unwrap();
        proxy.on_chunk(move |chunk| if chunk.number == 2 { action } else { Action::Forward });
        let mut client = connect(&proxy);
        let (mut server, _) = listener.accept().unwrap();
        client.write_all(b"a").unwrap();
        server.read_exact(&mut [0]).unwrap();
        client.write_all(b"b").unwrap();
        assert_eq!(rest(&mut client), b"");
        assert_eq!(rest(&mut server), &reached.as_bytes()[1..], "{action:?}");
    }
}

#[test]
fn an_answer_is_lost_with_its_connection() {
    let proxy = Proxy::start(upper_case_server()).unwrap();
    proxy.on_chunk(|chunk| match chunk.direction {
        Direction::ToClient if chunk.client_chunks == 2 => Action::CutBefore,
        _ => Action::Forward,
    });
    let mut client = connect(&proxy);
    assert_eq!(ask(&mut client, b'a'), b"A");
    assert_eq!(ask(&mut client, b'b'), b"");
}

#[test]
fn a_swallowed_chunk_is_lost_alone() {
    let proxy = Proxy::start(upper_case_server()).unwrap();
    let (swallowed, wait) = mpsc::channel();
    proxy.on_chunk(move |chunk| {
        if chunk.bytes == b"a" {
            swallowed.send(()).unwrap();
            return Action::Swallow;
        }
        Action::Forward
    });
    let mut client = connect(&proxy);
    client.write_all(b"a").unwrap();
    wait.recv().unwrap();
    assert_eq!(ask(&mut client, b'b'), b"B");
}

#[test]
fn a_half_closed_direction_leaves_the_other_open() {
    let proxy = Proxy::start(upper_case_server()).unwrap();
    proxy.on_chunk(|chunk| match chunk.direction {
        Direction::ToServer => Action::HalfClose,
        Direction::ToClient => Action::Forward,
    });
    let mut client = connect(&proxy);
    client.write_all(b"a").unwrap();
    assert_eq!(rest(&mut client), b"AEND");
}

#[test]
fn a_refusing_proxy_opens_the_same_port_again() {
    let proxy = Proxy::start(upper_case_server()).unwrap();
    let mut before = connect(&proxy);
    proxy.refuse();
    let refused = TcpStream::connect(("127.0.0.1", proxy.port())).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    assert_eq!(ask(&mut before, b'a'), b"A");
    proxy.cut();
    assert_eq!(ask(&mut before, b'b'), b"");
    proxy.accept().unwrap();
    assert_eq!(ask(&mut connect(&proxy), b'c'), b"C");
}

#[test]
fn a_paused_proxy_holds_everything_back() {
    let proxy = Proxy::start(upper_case_server()).unwrap();
    proxy.pause();
    let mut client = connect(&proxy);
    client.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert_eq!(ask(&mut client, b'a'), b"");
    client.set_read_timeout(None).unwrap();
    proxy.resume();
    client.read_exact(&mut [0]).unwrap();
    assert_eq!(ask(&mut client, b'b'), b"B");
}

#[test]
fn urls_lead_through_the_proxy() {
    let proxy = Proxy::start(upper_case_server()).unwrap();
    let port = proxy.port();
    assert_eq!(
        proxy.url("postgresql://u:p%40@db.example:5432/name?sslmode=require"),
        format!("postgresql://u:p%40@127.0.0.1:{port}/name?sslmode=require")
    );
    assert_eq!(proxy.url("http://[::1]:6334"), format!("http://127.0.0.1:{port}/"));
}

#[test]
fn ports_are_opened_while_other_threads_start_programs() {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !done.load(SeqCst) {
                    Command::new("true").status().unwrap();
                }
            });
        }
        let target = ("127.0.0.1", 9);
        let opened = (0..200).try_for_each(|_| {
            let proxy = Proxy::start(target)?;
            proxy.refuse();
            proxy.accept()
        });
        done.store(true, SeqCst);
        opened.unwrap();
    });
}
