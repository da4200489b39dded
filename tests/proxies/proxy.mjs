// A real proxy in front of a server, as a process, with its configuration of examples/deploy.
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import tls from "node:tls";

const EXAMPLES = new URL("../../examples/deploy/", import.meta.url);

/** The certificate of every proxy under test, and its key. Clients trust it as an authority. */
export const [certificate, key] = (() => {
  const folder = mkdtempSync(join(tmpdir(), "fanline-certificate-"));
  const names = "subjectAltName=IP:127.0.0.1,DNS:localhost";
  const files = ["-keyout", "key.pem", "-out", "certificate.pem"];
  const kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=localhost"];
  try {
    execFileSync("openssl", ["req", ...kind, ...files, "-addext", names], { cwd: folder, stdio: "pipe" });
    return ["certificate.pem", "key.pem"].map((name) => readFileSync(join(folder, name), "utf8"));
  } finally {
    rmSync(folder, { recursive: true });
  }
})();

async function freePort() {
  const server = net.createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  return port;
}

/** Replaces each `old` by its `new`, and adds those that it finds to `used`. */
function edit(text, changes, used) {
  for (const [old, replacement] of changes) {
    if (!text.includes(old)) continue;
    used.add(old);
    text = text.replaceAll(old, replacement);
  }
  return text;
}

export class Proxy {
  /** Starts `program` in front of `upstream`, host:port or unix:path. `changes` are [old, new] texts of its files. */
  static async start(program, upstream, changes = []) {
    const proxy = new Proxy();
    proxy.program = program;
    proxy.folder = mkdtempSync(join(tmpdir(), "fanline-proxy-"));
    proxy.upstream = upstream;
    const address = program.upstream ? [[program.upstream("127.0.0.1:8000"), program.upstream(upstream)]] : [];
    for (let attempt = 1; ; attempt++) {
      proxy.port = await freePort();
      proxy.url = `${program.scheme ?? "https"}://127.0.0.1:${proxy.port}`;
      proxy.configure([...changes, ...program.changes(proxy), ...address]);
      try {
        await proxy.run();
        return proxy;
      } catch (error) {
        // Another program may have taken the port.
        if (!proxy.hasEnded() || attempt === 3) throw error;
      }
    }
  }

  configure(changes) {
    const { program, folder } = this;
    const used = new Set();
    const written = { "certificate.pem": certificate, "key.pem": key, "both.pem": certificate + key, ...program.extra?.(this) };
    for (const file of program.files) written[basename(file)] = edit(readFileSync(new URL(file, EXAMPLES), "utf8"), changes, used);
    const unused = changes.find(([old]) => !used.has(old));
    if (unused) throw new Error(`${program.files} do not contain: ${unused[0]}`);
    for (const [name, text] of Object.entries(written)) writeFileSync(join(folder, name), text);
  }

  /** Starts the process, and waits until it accepts connections. */
  async run() {
    const [command, ...args] = this.program.command(this);
    const log = [];
    // A group of its own, so that it ends with all its processes.
    this.child = spawn(command, args, {
      cwd: this.folder,
      env: { PATH: process.env.PATH, ...this.program.environment?.(this) },
      stdio: ["ignore", "pipe", "pipe"],
      detached: true,
    });
    for (const output of [this.child.stdout, this.child.stderr]) output.setEncoding("utf8").on("data", (text) => log.push(text));
    const deadline = Date.now() + 60_000;
    while (!(await this.accepts()) || this.hasEnded()) {
      if (this.hasEnded() || Date.now() > deadline) {
        throw new Error(`${this.program.name} does not listen on ${this.url}:\n${log.join("").slice(-3000)}`);
      }
      await pause(20);
    }
  }

  hasEnded() {
    return this.child.exitCode !== null || this.child.signalCode !== null;
  }

  async accepts() {
    const plain = this.program.scheme === "http";
    const socket = (plain ? net : tls).connect({ port: this.port, host: "127.0.0.1", ca: certificate });
    try {
      await once(socket, plain ? "connect" : "secureConnect");
      return true;
    } catch {
      return false;
    } finally {
      socket.destroy();
    }
  }

  /** Ends all processes at once, without a word to clients or servers. */
  async kill() {
    const ended = once(this.child, "exit");
    process.kill(-this.child.pid, "SIGKILL");
    await ended;
  }

  async stop() {
    if (!this.hasEnded()) await this.kill();
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** The resident memory of all processes, in bytes. */
  memory() {
    return tree(this.child.pid).reduce((sum, pid) => sum + memory(pid), 0);
  }
}

const tree = (pid) => [
  pid,
  ...readdirSync(`/proc/${pid}/task`)
    .flatMap((thread) => readFileSync(`/proc/${pid}/task/${thread}/children`, "utf8").split(" ").filter(Boolean))
    .flatMap((child) => tree(Number(child))),
];

/** The resident memory of a process, in bytes. */
export const memory = (pid) => 1024 * Number(readFileSync(`/proc/${pid}/status`, "utf8").match(/VmRSS:\s+(\d+)/)[1]);
