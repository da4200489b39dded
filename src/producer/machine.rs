//! A sample of the machine. Rates are over the actual time since the previous sample.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use sysinfo::{
    CpuRefreshKind, Disk, DiskRefreshKind, Disks, MemoryRefreshKind, Networks, Pid, ProcessRefreshKind,
    ProcessesToUpdate, System, get_current_pid,
};

use super::metric::Metric;

/// How long after its creation a [`Machine`] can measure processor usage.
pub const WARM_UP: Duration = sysinfo::MINIMUM_CPU_UPDATE_INTERVAL.saturating_add(Duration::from_millis(50));

/// The most interfaces, and the most disks, of a sample: hosts of containers have hundreds.
const MAX_PER_KIND: usize = 16;

/// Read-only images, which are always full, layers over other file systems, and memory. `sysinfo` leaves out those of
/// the kernel and the network.
const PSEUDO: [&str; 8] = ["squashfs", "iso9660", "erofs", "overlay", "ramfs", "devtmpfs", "nsfs", "efivarfs"];

/// The machine, as of the last sample.
#[derive(Debug)]
pub struct Machine {
    system: System,
    networks: Networks,
    disks: Disks,
    own: Option<Pid>,
    sampled_at: Instant,
}

impl Machine {
    /// Takes the readings that the first sample's rates are relative to. Blocks for milliseconds.
    pub fn new() -> Result<Self, sysinfo::Error> {
        let mut machine = Self {
            system: System::new()?,
            networks: Networks::new_with_refreshed_list()?,
            disks: Disks::new_with_refreshed_list_specifics(disk_readings())?,
            own: get_current_pid().ok(),
            sampled_at: Instant::now(),
        };
        machine.refresh();
        Ok(machine)
    }

    /// Measures. Blocks for milliseconds.
    pub fn sample(&mut self) -> Vec<Metric> {
        let elapsed = self.sampled_at.elapsed().as_secs_f64();
        self.refresh();
        let mut metrics = Vec::new();
        self.add_processors(&mut metrics);
        self.add_memory(&mut metrics);
        self.add_networks(&mut metrics, elapsed);
        self.add_disks(&mut metrics, elapsed);
        self.add_own_process(&mut metrics);
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
        metrics.push(Metric::percent("memory_usage", used, total));
        let (used, total) = (self.system.used_swap(), self.system.total_swap());
        metrics.push(Metric::whole("swap_used", used, "bytes"));
        metrics.push(Metric::whole("swap_total", total, "bytes"));
    }

    fn add_networks(&self, metrics: &mut Vec<Metric>, elapsed: f64) {
        let used = self.networks.iter().filter(|(_, data)| data.total_received() + data.total_transmitted() > 0);
        let by_name: BTreeMap<_, _> = used.collect();
        for (name, data) in by_name.into_iter().take(MAX_PER_KIND) {
            let name = name.to_string_lossy();
            let received = Metric::rate("network_received", data.received(), elapsed, "bytes/s");
            let transmitted = Metric::rate("network_transmitted", data.transmitted(), elapsed, "bytes/s");
            metrics.extend([received.of("interface", &*name), transmitted.of("interface", &*name)]);
        }
    }

    fn add_disks(&self, metrics: &mut Vec<Metric>, elapsed: f64) {
        let real = self.disks.iter().filter(|disk| disk.total_space() > 0).filter(|disk| {
            let kind = disk.file_system().to_string_lossy();
            let is_root = disk.mount_point() == "/";
            // The root of a container is an overlay, and its only disk.
            is_root || !(PSEUDO.contains(&&*kind) || kind.starts_with("fuse."))
        });
        let seen = real.map(|disk| (disk.name(), disk.mount_point(), disk));
        for disk in one_mount_of_each(seen).into_iter().take(MAX_PER_KIND) {
            let mount = disk.mount_point().to_string_lossy();
            let usage = disk.usage();
            metrics.extend([
                disk_usage(disk).of("mount", &*mount),
                Metric::rate("disk_read", usage.read_bytes, elapsed, "bytes/s").of("mount", &*mount),
                Metric::rate("disk_written", usage.written_bytes, elapsed, "bytes/s").of("mount", &*mount),
            ]);
        }
    }

    fn add_own_process(&self, metrics: &mut Vec<Metric>) {
        let Some(process) = self.own.and_then(|own| self.system.process(own)) else { return };
        // Percent of one core: a server on four busy cores uses 400 percent.
        metrics.push(Metric::real("process_cpu_usage", process.cpu_usage().into(), "percent"));
        metrics.push(Metric::whole("process_memory", process.memory(), "bytes"));
    }
}

fn disk_readings() -> DiskRefreshKind {
    DiskRefreshKind::nothing().with_storage().with_io_usage()
}

/// Counts like `df`: blocks reserved for the superuser are neither used nor free. `sysinfo` counts them as used.
fn disk_usage(disk: &Disk) -> Metric {
    let (used, total) = match rustix::fs::statvfs(disk.mount_point()) {
        Ok(blocks) => {
            let used = blocks.f_blocks.saturating_sub(blocks.f_bfree);
            (used, used + blocks.f_bavail)
        }
        Err(_) => (disk.total_space().saturating_sub(disk.available_space()), disk.total_space()),
    };
    Metric::percent("disk_usage", used, total)
}

/// The mount with the shortest path of each device: the others are parts of the same disk.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sample_has_processors_memory_and_own_process() {
        let mut machine = Machine::new().unwrap();
        let metrics = machine.sample();
        let names: Vec<_> = metrics.iter().map(|metric| metric.name).collect();
        for name in
            ["cpu_usage", "memory_used", "memory_usage", "load_average_1m", "process_memory", "process_cpu_usage"]
        {
            assert!(names.contains(&name), "{name} in {names:?}");
        }
        let value = |name| metrics.iter().find(|metric| metric.name == name).unwrap().value.as_f64().unwrap();
        assert!(value("memory_used") > 0.0 && value("memory_used") < value("memory_total"));
        assert!(value("process_memory") > 0.0);
        let cores = metrics.iter().filter(|metric| metric.name == "cpu_usage" && metric.tag.is_some()).count();
        assert_eq!(cores, machine.system.cpus().len());
    }

    #[test]
    fn device_with_several_mounts_keeps_the_shortest_path() {
        let mounts = [("sda", "/var/lib", 1), ("sda", "/", 2), ("sdb", "/data", 3), ("sda", "/home", 4)];
        assert_eq!(one_mount_of_each(mounts.into_iter()), [2, 3]);
    }
}
