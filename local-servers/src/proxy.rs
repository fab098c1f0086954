//! A scripted TCP proxy: network faults, and crashes at exact places of a conversation.
//!
//! ```no_run
//! use local_servers::proxy::{Action, Direction, Proxy};
//! let pg = local_servers::postgres();
//! let proxy = Proxy::start((pg.host(), pg.port()))?;
//! let url = proxy.url(&pg.url("postgres"));          // what the client under test is given
//! proxy.on_chunk(|chunk| match chunk.direction {
//!     // The answer to the seventh thing that the client sent is lost, and the connection with it.
//!     Direction::ToClient if chunk.client_chunks == 7 => Action::CutBefore,
//!     _ => Action::Forward,
//! });
//! # Ok::<(), local_servers::Error>(())
//! ```

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use url::Url;

use crate::error::{Context, Error, Result};
use crate::port::{self, Port};

/// Where a chunk goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    ToServer,
    ToClient,
}

/// What one read of a socket returned, before it is forwarded. Numbers start at 1.
#[derive(Debug)]
pub struct Chunk<'a> {
    pub direction: Direction,
    /// The connection, in order of acceptance.
    pub connection: usize,
    /// Its place in this direction of this connection.
    pub number: usize,
    /// Its place in this direction of all connections.
    pub total: usize,
    /// Chunks that the client has sent on this connection so far.
    pub client_chunks: usize,
    pub bytes: &'a [u8],
}

/// What becomes of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Forward,
    /// It is forwarded with the last bit of this byte another one.
    Flip(usize),
    /// It is lost, the connection goes on.
    Swallow,
    /// It is lost, both sides see the connection close.
    CutBefore,
    /// It is forwarded, then both sides see the connection close.
    CutAfter,
    /// It is forwarded, then the receiver sees the end of this direction; the other goes on.
    HalfClose,
}

type Hook = Arc<dyn Fn(&Chunk<'_>) -> Action + Send + Sync>;

/// A listener on a free loopback port that forwards to one server. Ends with the value, and with it its connections.
pub struct Proxy {
    shared: Arc<Shared>,
    listener: Mutex<Option<JoinHandle<()>>>,
    port: Port,
}

struct Shared {
    target: SocketAddr,
    /// Who connects to say that the port is to be closed.
    last: Mutex<Option<SocketAddr>>,
    hook: Mutex<Hook>,
    paused: Mutex<bool>,
    resumed: Condvar,
    connections: AtomicUsize,
    to_server: AtomicUsize,
    to_client: AtomicUsize,
    open: Mutex<BTreeMap<usize, [TcpStream; 2]>>,
}

impl Proxy {
    /// Listens, and forwards everything until told otherwise. A target that does not accept looks to the client like a
    /// connection closed at once.
    ///
    /// # Errors
    /// If the target has no address or no port is free.
    pub fn start(target: impl ToSocketAddrs) -> Result<Proxy> {
        let target = target
            .to_socket_addrs()
            .context(|| "the proxy's target cannot be resolved".into())?
            .next()
            .ok_or_else(|| Error::new("the proxy's target has no address"))?;
        let shared = Shared {
            target,
            last: Mutex::new(None),
            hook: Mutex::new(Arc::new(|_| Action::Forward)),
            paused: Mutex::new(false),
            resumed: Condvar::new(),
            connections: AtomicUsize::new(0),
            to_server: AtomicUsize::new(0),
            to_client: AtomicUsize::new(0),
            open: Mutex::new(BTreeMap::new()),
        };
        let (port, socket) = port::listen()?;
        let proxy = Proxy { shared: Arc::new(shared), listener: Mutex::new(None), port };
        proxy.serve_on(&mut lock(&proxy.listener), socket);
        Ok(proxy)
    }

    pub fn port(&self) -> u16 {
        self.port.number
    }

    /// `url` with this proxy in place of its host and port.
    ///
    /// # Panics
    /// If it is not a URL with a host.
    pub fn url(&self, url: &str) -> String {
        let mut through = Url::parse(url).unwrap_or_else(|e| panic!("{url:?} is not a URL: {e}"));
        let set = through.set_host(Some("127.0.0.1")).is_ok() && through.set_port(Some(self.port())).is_ok();
        assert!(set, "{url:?} has no host");
        through.into()
    }

    /// Calls `hook` for every chunk from now on, before it is forwarded; it replaces the hook before. It runs on the
    /// direction's own thread: a hook that sleeps or blocks delays this direction of this connection only.
    pub fn on_chunk(&self, hook: impl Fn(&Chunk<'_>) -> Action + Send + Sync + 'static) {
        *lock(&self.shared.hook) = Arc::new(hook);
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(SeqCst)
    }

    /// Chunks that clients have sent so far, over all connections.
    pub fn client_chunks(&self) -> usize {
        self.shared.to_server.load(SeqCst)
    }

    /// Closes the port: new connections are refused. Open ones stay; [`cut`](Self::cut) ends them.
    pub fn refuse(&self) {
        let Some(listener) = lock(&self.listener).take() else { return };
        let mut last = lock(&self.shared.last);
        // Comes after all who connected before, so that they are served.
        let wake = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port()));
        *last = wake.and_then(|stream| stream.local_addr()).ok();
        drop(last);
        let _ = listener.join();
    }

    /// Opens the port again, the same, after [`refuse`](Self::refuse).
    pub fn accept(&self) -> Result<()> {
        let mut listener = lock(&self.listener);
        if listener.is_none() {
            self.serve_on(&mut listener, self.bind()?);
        }
        Ok(())
    }

    /// A process that another thread starts holds the closed listener too until it has become its program.
    fn bind(&self) -> Result<TcpListener> {
        let mut tries = 0;
        loop {
            match TcpListener::bind((Ipv4Addr::LOCALHOST, self.port())) {
                Err(error) if error.kind() == ErrorKind::AddrInUse && tries < 100 => {
                    tries += 1;
                    thread::sleep(Duration::from_millis(10));
                }
                bound => {
                    return bound.context(|| format!("the proxy cannot listen on port {}", self.port()));
                }
            }
        }
    }

    fn serve_on(&self, listener: &mut Option<JoinHandle<()>>, socket: TcpListener) {
        *lock(&self.shared.last) = None;
        let shared = Arc::clone(&self.shared);
        *listener = Some(thread::spawn(move || shared.listen(&socket)));
    }

    /// Closes all open connections.
    pub fn cut(&self) {
        lock(&self.shared.open).values().flatten().for_each(close);
    }

    /// Holds back all chunks, of new connections too, until [`resume`](Self::resume).
    pub fn pause(&self) {
        *lock(&self.shared.paused) = true;
    }

    /// Lets them go on.
    pub fn resume(&self) {
        *lock(&self.shared.paused) = false;
        self.shared.resumed.notify_all();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.refuse();
        self.cut();
        self.resume();
    }
}

impl Shared {
    fn listen(self: &Arc<Self>, socket: &TcpListener) {
        loop {
            let Ok((client, peer)) = socket.accept() else { continue };
            if *lock(&self.last) == Some(peer) {
                return;
            }
            let shared = Arc::clone(self);
            let connection = self.connections.fetch_add(1, SeqCst) + 1;
            // A connection that fails is closed, which is what its client then sees.
            thread::spawn(move || shared.serve(connection, client));
        }
    }

    fn serve(&self, connection: usize, client: TcpStream) -> std::io::Result<()> {
        let server = TcpStream::connect(self.target)?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        lock(&self.open).insert(connection, [client.try_clone()?, server.try_clone()?]);
        let client_chunks = AtomicUsize::new(0);
        thread::scope(|scope| {
            scope.spawn(|| self.pump(Direction::ToClient, connection, &client_chunks, &server, &client));
            self.pump(Direction::ToServer, connection, &client_chunks, &client, &server);
        });
        lock(&self.open).remove(&connection);
        Ok(())
    }

    fn pump(
        &self,
        direction: Direction,
        connection: usize,
        client_chunks: &AtomicUsize,
        mut from: &TcpStream,
        mut to: &TcpStream,
    ) {
        let mut buffer = vec![0; 64 * 1024];
        for number in 1.. {
            let Ok(length @ 1..) = from.read(&mut buffer) else { break };
            drop(self.resumed.wait_while(lock(&self.paused), |paused| *paused));
            let total = match direction {
                Direction::ToServer => {
                    client_chunks.fetch_add(1, SeqCst);
                    self.to_server.fetch_add(1, SeqCst) + 1
                }
                Direction::ToClient => self.to_client.fetch_add(1, SeqCst) + 1,
            };
            let client_chunks = client_chunks.load(SeqCst);
            let hook = Arc::clone(&lock(&self.hook));
            let bytes = &mut buffer[..length];
            let action = hook(&Chunk { direction, connection, number, total, client_chunks, bytes });
            let forward = !matches!(action, Action::Swallow | Action::CutBefore);
            if let Action::Flip(at) = action {
                bytes[at] ^= 1;
            }
            let lost = forward && to.write_all(bytes).is_err();
            if lost || matches!(action, Action::CutBefore | Action::CutAfter) {
                [from, to].into_iter().for_each(close);
            }
            if action == Action::HalfClose {
                break;
            }
        }
        // The end of one direction leaves the other open.
        let _ = to.shutdown(Shutdown::Write);
    }
}

fn close(stream: &TcpStream) {
    // It may be closed already.
    let _ = stream.shutdown(Shutdown::Both);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
