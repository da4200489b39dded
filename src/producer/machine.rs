//! A sample of the machine.
//!
//! Rates are over the time since the sample before, so that they do not depend on the interval being kept.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use sysinfo::{
    CpuRefreshKind, Disk, DiskRefreshKind, Disks, MemoryRefreshKind, Networks, Pid, Process, ProcessRefreshKind,
    ProcessesToUpdate, System, get_current_pid,
};

use super::metric::Metric;

/// How long after its creation a [`Machine`] can say how busy the processors are.
pub const WARM_UP: Duration = sysinfo::MINIMUM_CPU_UPDATE_INTERVAL.saturating_add(Duration::from_millis(50));

/// More interfaces or disks than this say nothing to people, and containers' hosts have hundreds.
const MOST_OF_A_KIND: usize = 16;

/// File systems that hold no files of this machine's own: images that are full by nature, layers over other file
/// systems, and windows into programs. `sysinfo` has left out the kernel's and the network's.
const PSEUDO: [&str; 8] = ["squashfs", "iso9660", "erofs", "overlay", "ramfs", "devtmpfs", "nsfs", "efivarfs"];

/// The machine, as of the last sample.
#[derive(Debug)]
pub struct Machine {
    system: System,
    networks: Networks,
    disks: Disks,
    own: Option<Pid>,
    /// Processor time of this process, in milliseconds.
    own_busy: u64,
    sampled_at: Instant,
}

impl Machine {
    /// Takes the readings that the first sample's rates are relative to. It reads files: not for a runtime's thread.
    ///
    /// # Errors
    /// When `sysinfo` does not know this kind of machine.
    pub fn new() -> Result<Self, sysinfo::Error> {
        let mut machine = Self {
            system: System::new()?,
            networks: Networks::new_with_refreshed_list()?,
            disks: Disks::new_with_refreshed_list_specifics(disk_readings())?,
            own: get_current_pid().ok(),
            own_busy: 0,
            sampled_at: Instant::now(),
        };
        machine.refresh();
        machine.own_busy = machine.own_process().map_or(0, Process::accumulated_cpu_time);
        Ok(machine)
    }

    /// Measures. It reads files, for milliseconds: not for a runtime's thread.
    pub fn sample(&mut self) -> Vec<Metric> {
        let elapsed = self.sampled_at.elapsed().as_secs_f64();
        self.refresh();
        let mut metrics = Vec::new();
        self.add_processors(&mut metrics);
        self.add_memory(&mut metrics);
        self.add_networks(&mut metrics, elapsed);
        self.add_disks(&mut metrics, elapsed);
        self.add_own_process(&mut metrics, elapsed);
        metrics
    }

    fn refresh(&mut self) {
        self.sampled_at = Instant::now();
        self.system.refresh_cpu_specifics(CpuRefreshKind::nothing().with_usage());
        self.system.refresh_memory_specifics(MemoryRefreshKind::everything());
        self.networks.refresh(true);
        self.disks.refresh_specifics(true, disk_readings());
        if let Some(own) = self.own {
            let readings = ProcessRefreshKind::nothing().with_cpu().with_memory().without_tasks();
            self.system.refresh_processes_specifics(ProcessesToUpdate::Some(&[own]), true, readings);
        }
    }

    fn add_processors(&self, metrics: &mut Vec<Metric>) {
        metrics.push(Metric::real("cpu_usage", self.system.global_cpu_usage().into(), "percent"));
        for (index, core) in self.system.cpus().iter().enumerate() {
            metrics.push(Metric::real("cpu_usage", core.usage().into(), "percent").of("core", index.to_string()));
        }
        if let Ok(load) = System::load_average() {
            metrics.push(Metric::real("load_average_1m", load.one, "load"));
            metrics.push(Metric::real("load_average_5m", load.five, "load"));
            metrics.push(Metric::real("load_average_15m", load.fifteen, "load"));
        }
    }

    fn add_memory(&self, metrics: &mut Vec<Metric>) {
        let (used, total) = (self.system.used_memory(), self.system.total_memory());
        metrics.push(Metric::whole("memory_used", used, "bytes"));
        metrics.push(Metric::whole("memory_total", total, "bytes"));
        metrics.push(Metric::real("memory_usage", percent(used, total), "percent"));
        let (used, total) = (self.system.used_swap(), self.system.total_swap());
        metrics.push(Metric::whole("swap_used", used, "bytes"));
        metrics.push(Metric::whole("swap_total", total, "bytes"));
    }

    fn add_networks(&self, metrics: &mut Vec<Metric>, elapsed: f64) {
        let used = self.networks.iter().filter(|(_, data)| data.total_received() + data.total_transmitted() > 0);
        let by_name: BTreeMap<_, _> = used.collect();
        for (name, data) in by_name.into_iter().take(MOST_OF_A_KIND) {
            let name = name.to_string_lossy();
            let received = Metric::real("network_received", rate(data.received(), elapsed), "bytes/s");
            let transmitted = Metric::real("network_transmitted", rate(data.transmitted(), elapsed), "bytes/s");
            metrics.extend([received.of("interface", &*name), transmitted.of("interface", &*name)]);
        }
    }

    fn add_disks(&self, metrics: &mut Vec<Metric>, elapsed: f64) {
        let real = self.disks.iter().filter(|disk| disk.total_space() > 0).filter(|disk| {
            let kind = disk.file_system().to_string_lossy();
            let is_root = disk.mount_point() == "/";
            // A container's root is an overlay, and the only disk it has.
            is_root || !(PSEUDO.contains(&&*kind) || kind.starts_with("fuse."))
        });
        let seen = real.map(|disk| (disk.name(), disk.mount_point(), disk));
        for disk in one_mount_of_each(seen).into_iter().take(MOST_OF_A_KIND) {
            let mount = disk.mount_point().to_string_lossy();
            let usage = disk.usage();
            metrics.extend([
                Metric::real("disk_usage", fullness(disk), "percent").of("mount", &*mount),
                Metric::real("disk_read", rate(usage.read_bytes, elapsed), "bytes/s").of("mount", &*mount),
                Metric::real("disk_written", rate(usage.written_bytes, elapsed), "bytes/s").of("mount", &*mount),
            ]);
        }
    }

    fn add_own_process(&mut self, metrics: &mut Vec<Metric>, elapsed: f64) {
        let Some(process) = self.own_process() else { return };
        let (busy, memory) = (process.accumulated_cpu_time(), process.memory());
        let busy_before = std::mem::replace(&mut self.own_busy, busy);
        // Milliseconds a second are tenths of a percent, of one core: a server on four busy cores uses 400 percent.
        let usage = rate(busy.saturating_sub(busy_before), elapsed) / 10.0;
        metrics.push(Metric::real("process_cpu_usage", usage, "percent"));
        metrics.push(Metric::whole("process_memory", memory, "bytes"));
    }

    fn own_process(&self) -> Option<&Process> {
        self.own.and_then(|own| self.system.process(own))
    }
}

fn disk_readings() -> DiskRefreshKind {
    DiskRefreshKind::nothing().with_storage().with_io_usage()
}

/// Percent used, of what is not reserved for the superuser: what `df` shows. `sysinfo` counts reserved blocks as used.
fn fullness(disk: &Disk) -> f64 {
    match rustix::fs::statvfs(disk.mount_point()) {
        Ok(blocks) => {
            let used = blocks.f_blocks.saturating_sub(blocks.f_bfree);
            percent(used, used + blocks.f_bavail)
        }
        Err(_) => percent(disk.total_space().saturating_sub(disk.available_space()), disk.total_space()),
    }
}

/// Of each device the mount with the shortest path: the others show a part of the same disk.
fn one_mount_of_each<D: Ord, M: AsRef<std::path::Path>, T>(mounts: impl Iterator<Item = (D, M, T)>) -> Vec<T> {
    let mut shortest: BTreeMap<D, (M, T)> = BTreeMap::new();
    for (device, mount, disk) in mounts {
        let length = |mount: &M| mount.as_ref().as_os_str().len();
        if shortest.get(&device).is_none_or(|(present, _)| length(&mount) < length(present)) {
            shortest.insert(device, (mount, disk));
        }
    }
    shortest.into_values().map(|(_, disk)| disk).collect()
}

#[expect(clippy::cast_precision_loss, reason = "two decimals are shown")]
fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 * 100.0 }
}

#[expect(clippy::cast_precision_loss, reason = "two decimals are shown")]
fn rate(count: u64, seconds: f64) -> f64 {
    count as f64 / seconds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_has_the_machine_s_processors_memory_and_this_process() {
        let mut machine = Machine::new().unwrap();
        let metrics = machine.sample();
        let names: Vec<_> = metrics.iter().map(|metric| metric.name).collect();
        for name in
            ["cpu_usage", "memory_used", "memory_usage", "load_average_1m", "process_memory", "process_cpu_usage"]
        {
            assert!(names.contains(&name), "{name} in {names:?}");
        }
        let value = |name| metrics.iter().find(|metric| metric.name == name).unwrap().value.as_f64();
        assert!(value("memory_used") > 0.0 && value("memory_used") < value("memory_total"));
        assert!(value("process_memory") > 0.0);
        let cores = metrics.iter().filter(|metric| metric.name == "cpu_usage" && metric.tag.is_some()).count();
        assert_eq!(cores, machine.system.cpus().len());
    }

    #[test]
    fn of_a_device_with_several_mounts_the_shortest_path_is_kept() {
        let mounts = [("sda", "/var/lib", 1), ("sda", "/", 2), ("sdb", "/data", 3), ("sda", "/home", 4)];
        assert_eq!(one_mount_of_each(mounts.into_iter()), [2, 3]);
    }

    #[test]
    fn a_machine_without_swap_uses_none_of_it() {
        assert_eq!(percent(0, 0), 0.0);
    }
}
