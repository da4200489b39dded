//! An HTTP server whose responses the test decides, with one request per connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// A received request.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Its head, in lower case except for values.
    pub head: String,
    pub body: String,
}

impl Asked {
    /// The value of a header; `name` is in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let is_it = |line: &&str| line.split(':').next().is_some_and(|key| key.eq_ignore_ascii_case(name));
        Some(self.head.lines().skip(1).find(is_it)?.split_once(':')?.1.trim())
    }
}

/// The server. It stops on drop.
pub struct Stub {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    peak_concurrency: Arc<AtomicUsize>,
    is_over: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Stub {
    /// Answers each request with the status and body that `answer` returns.
    pub fn start(answer: impl Fn(&Asked) -> (u16, String) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, most, is_over) =
            (Arc::<Mutex<Vec<Asked>>>::default(), Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let (answer, now) = (Arc::new(answer), Arc::<AtomicUsize>::default());
        let (keep, peak_concurrency, over) = (asked.clone(), Arc::clone(&most), is_over.clone());
        let thread = thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                let (answer, keep, now, most) = (answer.clone(), keep.clone(), now.clone(), peak_concurrency.clone());
                thread::spawn(move || {
                    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    // The client may have given up.
                    let _ = exchange(socket, |request| {
                        keep.lock().unwrap().push(request.clone());
                        let reply = answer(&request);
                        now.fetch_sub(1, Ordering::SeqCst);
                        reply
                    });
                });
            }
        });
        Self { address, asked, peak_concurrency: most, is_over, thread: Some(thread) }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// The highest number of concurrent requests.
    pub fn peak_concurrency(&self) -> usize {
        self.peak_concurrency.load(Ordering::SeqCst)
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
        let _ = self.thread.take().expect("joined once").join();
    }
}

fn exchange(socket: TcpStream, answer: impl FnOnce(Asked) -> (u16, String)) -> std::io::Result<()> {
    let mut reader = BufReader::new(socket);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Ok(());
        }
    }
    let mut request = Asked { head, body: String::new() };
    let length = request.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    reader.by_ref().take(length).read_to_string(&mut request.body)?;
    let (status, body) = answer(request);
    let mut socket = reader.into_inner();
    write!(socket, "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}
