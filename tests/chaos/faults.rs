//! The faults of each phase, injected until its time is over.

use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::process::Signal;

use crate::process::until;
use crate::proxy::Direction;
use crate::world::{STREAM, World};

/// A port without a listener.
const CLOSED_PORT: u16 = 1;

/// Injects nothing: the readers are the fault.
pub fn none(world: &mut World) -> Result<(), String> {
    while world.has_time() {
        world.wait(50, 100);
    }
    Ok(())
}

pub fn restart_servers(world: &mut World) -> Result<(), String> {
    while world.has_time() {
        world.wait(200, 1200);
        let server = world.pick_server();
        if world.random.one_in(4) {
            world.freeze_server(server);
            world.wait(50, 400);
            world.thaw_server(server);
        } else {
            world.restart_server(server)?;
        }
    }
    Ok(())
}

pub fn restart_gracefully(world: &mut World) -> Result<(), String> {
    while world.has_time() {
        world.wait(200, 1200);
        let server = world.pick_server();
        world.restart_gracefully(server)?;
    }
    Ok(())
}

pub fn freeze_servers(world: &mut World) -> Result<(), String> {
    while world.has_time() {
        let server = world.pick_server();
        world.freeze_server(server);
        world.wait(10, 300);
        world.thaw_server(server);
        world.wait(10, 250);
    }
    Ok(())
}

pub fn disrupt_redis(world: &mut World) -> Result<(), String> {
    while world.has_time() {
        world.wait(100, 900);
        let server = world.pick_server();
        match world.random.of(0..5) {
            0 => {
                world.kill_redis(0);
                world.wait(0, 600);
                world.restart_redis(0)?;
            }
            1 => {
                world.fault(format!("server {server}: its connections to Redis are closed"));
                world.proxies[server].cut();
            }
            2 => {
                world.fault(format!("server {server}: its connections to Redis are delayed"));
                let delay = world.random.of(1..30);
                world.proxies[server].slow_down(Duration::from_millis(delay));
                world.wait(100, 800);
                world.proxies[server].heal();
            }
            3 => world.restart_server(server)?,
            _ => {
                world.freeze_server(server);
                world.wait(50, 400);
                world.thaw_server(server);
            }
        }
    }
    Ok(())
}

pub fn lose_last_writes(world: &mut World) -> Result<(), String> {
    while world.has_time() {
        world.wait(100, 500);
        world.redis_command(&["SAVE"])?;
        world.wait(30, 500);
        let server = world.pick_server();
        let all = 0..world.servers.len();
        match world.random.of(0..3) {
            0 => {
                // No server remembers the events that Redis lost.
                if world.random.one_in(2) {
                    // Time for clients to receive what was published.
                    world.wait(20, 60);
                }
                for server in all.clone() {
                    world.kill_server(server);
                }
                world.kill_redis(0);
                world.restart_redis(0)?;
                for server in all {
                    world.start_server(server)?;
                }
            }
            1 => {
                world.kill_redis(0);
                world.wait(0, 300);
                world.restart_redis(0)?;
                if world.random.one_in(2) {
                    world.restart_server(server)?;
                }
            }
            _ => {
                // One server returns after the others have published as many events as were lost.
                world.freeze_server(server);
                world.kill_redis(0);
                world.restart_redis(0)?;
                if world.servers.len() > 1 {
                    let other = (server + 1) % world.servers.len();
                    world.restart_server(other)?;
                }
                world.wait(300, 1500);
                world.thaw_server(server);
            }
        }
    }
    Ok(())
}

/// One server is frozen or disconnected while Redis loses its last writes. The other restarts and publishes as many events
/// as were lost.
pub fn repeat_after_loss(world: &mut World) -> Result<(), String> {
    while world.has_time() {
        world.wait(100, 400);
        world.redis_command(&["SAVE"])?;
        world.wait(50, 300);
        let away = world.pick_server();
        let is_frozen = world.random.one_in(2);
        if is_frozen {
            world.freeze_server(away);
        } else {
            world.fault(format!("server {away} is disconnected from Redis"));
            world.proxies[away].redirect_to(CLOSED_PORT);
            world.proxies[away].cut();
            // Time for the server to read what Redis has.
            world.wait(20, 50);
        }
        world.kill_server(1 - away);
        world.kill_redis(0);
        world.restart_redis(0)?;
        world.start_server(1 - away)?;
        world.wait(300, 1500);
        if is_frozen {
            world.thaw_server(away);
        } else {
            world.fault(format!("server {away} is connected to Redis again"));
            let port = world.redis[0].port;
            world.proxies[away].redirect_to(port);
        }
    }
    Ok(())
}

pub fn flush(world: &mut World) -> Result<(), String> {
    while world.has_time() {
        world.wait(200, 900);
        let server = world.pick_server();
        let is_frozen = world.random.one_in(2);
        if is_frozen {
            world.freeze_server(server);
        }
        let command: &[&str] = if world.random.one_in(2) { &["FLUSHALL"] } else { &["DEL", STREAM] };
        world.redis_command(command)?;
        if is_frozen {
            world.wait(100, 1500);
            world.thaw_server(server);
        }
    }
    Ok(())
}

pub fn trim(world: &mut World) -> Result<(), String> {
    while world.has_time() {
        world.wait(100, 500);
        if world.random.one_in(4) {
            let server = world.pick_server();
            world.restart_server(server)?;
        }
        let left = world.random.of(0..800).to_string();
        world.redis_command(&["XTRIM", STREAM, "MAXLEN", &left])?;
    }
    Ok(())
}

pub fn partition(world: &mut World) -> Result<(), String> {
    while world.has_time() {
        world.wait(50, 600);
        let server = world.pick_server();
        let directions: &[Direction] = match world.random.of(0..3) {
            0 => &[Direction::Commands],
            1 => &[Direction::Replies],
            _ => &[Direction::Commands, Direction::Replies],
        };
        match world.random.of(0..4) {
            0 | 1 => {
                world.fault(format!("server {server}: {directions:?} are held back"));
                directions.iter().for_each(|&direction| world.proxies[server].hold(direction, true));
                world.wait(50, 1800);
                if world.random.one_in(2) {
                    world.fault(format!("server {server}: its connections to Redis are closed"));
                    world.proxies[server].cut();
                }
                world.proxies[server].heal();
                world.fault(format!("server {server}: nothing is held back"));
            }
            2 => answer_from_replica(world, server)?,
            _ => {
                world.fault(format!("server {server}: its connections to Redis are closed"));
                world.proxies[server].cut();
            }
        }
    }
    Ok(())
}

/// A server's commands reach the master, but the replies are held back. Then the server is redirected to a read-only replica
/// that has everything the server has read, and none of its last commands.
fn answer_from_replica(world: &mut World, server: usize) -> Result<(), String> {
    let (master, replica) = (world.redis[0].port, world.redis[1].port);
    world.shared.is_publishing.store(false, Ordering::SeqCst);
    world.wait(50, 200);
    world.redis[1].command(&["REPLICAOF", "127.0.0.1", &CLOSED_PORT.to_string()])?;
    world.fault(format!("the replica is disconnected, and replies to server {server} are held back"));
    world.proxies[server].hold(Direction::Replies, true);
    world.shared.is_publishing.store(true, Ordering::SeqCst);
    world.wait(20, 400);
    world.fault(format!("server {server} is redirected to the replica"));
    world.proxies[server].redirect_to(replica);
    world.proxies[server].cut();
    world.proxies[server].heal();
    world.wait(300, 2000);
    world.fault(format!("server {server} is redirected to the master"));
    world.proxies[server].redirect_to(master);
    world.proxies[server].cut();
    world.redis[1].command(&["REPLICAOF", "127.0.0.1", &master.to_string()])?;
    Ok(())
}

pub fn switch(world: &mut World) -> Result<(), String> {
    while world.has_time() {
        world.wait(300, 1000);
        let before = world.master();
        let outcome = world.sentinels[0].command(&["SENTINEL", "FAILOVER", "main"]);
        world.fault(format!("SENTINEL FAILOVER: {outcome:?}"));
        if outcome.is_ok() {
            until("the Sentinel names another master", Duration::from_secs(15), || {
                world.master().filter(|now| Some(*now) != before)
            })?;
            world.fault("the Sentinel names another master");
        }
        if world.random.one_in(2) {
            world.wait(500, 2000);
            let server = world.pick_server();
            world.restart_server(server)?;
        }
        world.wait(2000, 4000);
    }
    Ok(())
}

pub fn failover(world: &mut World) -> Result<(), String> {
    world.wait(300, 1000);
    let before = world.master().ok_or("no master")?;
    let master = world.redis.iter().position(|redis| redis.port == before).ok_or("an unknown master")?;
    let replica = 1 - master;
    let outcome = world.redis[replica].command(&["REPLICAOF", "127.0.0.1", &CLOSED_PORT.to_string()]);
    world.fault(format!("the replica is disconnected: {outcome:?}"));
    world.wait(100, 600);
    if world.random.one_in(3) {
        // A frozen server remembers the lost branch, and has not observed the failover.
        let server = world.pick_server();
        world.freeze_server(server);
        world.kill_redis(master);
        wait_for_master(world, before)?;
        world.wait(100, 1500);
        world.thaw_server(server);
    } else {
        world.kill_redis(master);
        if world.random.one_in(2) {
            let server = world.pick_server();
            world.restart_server(server)?;
        }
        wait_for_master(world, before)?;
    }
    world.wait(500, 2000);
    if world.random.one_in(2) {
        world.restart_redis(master)?;
    }
    while world.has_time() {
        world.wait(100, 500);
    }
    world.servers.iter().for_each(|server| server.signal(Signal::CONT));
    Ok(())
}

fn wait_for_master(world: &mut World, before: u16) -> Result<(), String> {
    until("the Sentinel names another master", Duration::from_secs(20), || {
        world.master().filter(|now| *now != before)
    })?;
    world.fault("the Sentinel names another master");
    Ok(())
}
