//! Clients that read the response head, and then never again.

use std::io;
use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::client::{Client, Phase};
use crate::options::Options;
use crate::probe;
use crate::stream::Checker;

#[derive(Default)]
pub struct Stuck {
    /// Nothing polls these; they are kept so that their sockets stay open.
    clients: Vec<(Client, Option<SocketAddr>)>,
}

impl Stuck {
    pub fn connect(options: &Options) -> io::Result<Self> {
        let path = options.stuck_path.as_ref().unwrap_or(&options.path);
        let mut clients = Vec::with_capacity(options.stuck);
        for index in 0..options.stuck {
            let client = read_one_head(&path.replace("{n}", &format!("stuck{index}")), options)?;
            let name = client.socket.as_ref().map(rustix::net::getsockname).transpose()?;
            clients.push((client, name.and_then(|name| SocketAddr::try_from(name).ok())));
        }
        Ok(Self { clients })
    }

    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// Bytes that wait in the server's sockets of these clients, and how many of them it has cut off.
    pub fn unsent(&self, server: SocketAddr) -> io::Result<(u64, usize)> {
        let (mut unsent, mut closed) = (0, 0);
        for address in self.clients.iter().filter_map(|(_, address)| *address) {
            match probe::unsent(server, address)? {
                Some(bytes) => unsent += bytes,
                None => closed += 1,
            }
        }
        Ok((unsent, closed))
    }
}

fn read_one_head(path: &str, options: &Options) -> io::Result<Client> {
    let deadline = Instant::now() + options.patience;
    let mut client = Client::connect(options.target, None, Some(options.stuck_receive_buffer))?;
    let mut buffer = [0; 4096];
    while client.phase != Phase::Streaming {
        if client.phase == Phase::Connecting {
            client.send_request(path, options)?;
        } else if let Some(socket) = &client.socket {
            match rustix::io::read(socket, &mut buffer[..]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => {
                    client.receive_head(&buffer[..length], 0, &mut Checker::default())?;
                }
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if Instant::now() > deadline {
            return Err(io::Error::other("a stuck client got no head in time"));
        }
        sleep(Duration::from_millis(1));
    }
    Ok(client)
}
