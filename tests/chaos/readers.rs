//! All readers of a phase, on one thread.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::client::Client;
use crate::filter::matches_any;
use crate::plan::Plan;
use crate::random::Random;
use crate::recording::{Line, Millis};
use crate::shared::Shared;

/// The most bytes per read.
const BUFFER: usize = 32 << 10;

/// Starts the readers of a phase, and a witness for each server. The thread ends with the phase and returns their logs.
pub fn start(shared: Arc<Shared>, plan: Plan, mut random: Random) -> JoinHandle<Vec<Vec<(Millis, Line)>>> {
    let servers = shared.servers.lock().unwrap().len();
    let mut clients: Vec<Client> = (0..servers).map(|server| Client::witness(random.fork(), &plan, server)).collect();
    clients.extend((0..plan.clients).map(|_| Client::new(random.fork(), &plan)));
    std::thread::spawn(move || {
        run(&shared, &plan, &mut clients);
        clients.into_iter().map(|client| client.lines).collect()
    })
}

fn run(shared: &Shared, plan: &Plan, clients: &mut [Client]) {
    let mut buffer = vec![0; BUFFER];
    while !shared.has_ended.load(Ordering::Relaxed) {
        let now = Instant::now();
        for client in &mut *clients {
            client.tick(now, shared, plan);
        }
        let mut numbers = Vec::with_capacity(clients.len());
        let mut files = Vec::with_capacity(clients.len());
        for (number, client) in clients.iter_mut().enumerate() {
            if let Some(socket) = client.readable_socket(now, shared) {
                numbers.push(number);
                files.push(PollFd::new(socket, PollFlags::IN));
            }
        }
        let timeout = Timespec { tv_sec: 0, tv_nsec: 2_000_000 };
        let found = poll(&mut files, Some(&timeout)).unwrap_or(0);
        let ready: Vec<usize> = files
            .iter()
            .zip(&numbers)
            .filter(|(file, _)| found > 0 && !file.revents().is_empty())
            .map(|(_, &number)| number)
            .collect();
        drop(files);
        for number in ready {
            clients[number].read(shared, plan, &mut buffer);
        }
        if let Some(goals) = &*shared.goals.lock().unwrap() {
            let is_behind = |client: &Client| {
                let goal = goals.iter().rev().find(|(topic, _)| matches_any(client.filters(), topic));
                goal.is_some_and(|(_, goal)| {
                    client.current.is_none_or(|current| current.epoch != goal.epoch || current.sequence < goal.sequence)
                })
            };
            let behind = clients.iter().enumerate().filter(|(_, client)| is_behind(client)).map(|(number, _)| number);
            *shared.behind.lock().unwrap() = behind.collect();
        }
    }
}
