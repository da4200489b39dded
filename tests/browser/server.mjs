// A running `fanline serve` for tests in JavaScript. The environment variable FANLINE is the path of the program.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";

export const program = process.env.FANLINE ?? new URL("../../target/debug/fanline", import.meta.url).pathname;

export class Server {
  static async start(args = [], listen = "127.0.0.1:0") {
    // A client that stands still for a while may use a connection at the moment when the server closes it as idle.
    const own = ["--log-format", "json", "--listen", listen, "--drain", "0s", "--head-timeout", "5m"];
    const child = spawn(program, ["serve", ...own, ...args], {
      env: {},
      stdio: ["ignore", "ignore", "pipe"],
    });
    const server = new Server();
    Object.assign(server, { child, args });
    const log = [];
    for await (const line of createInterface({ input: child.stderr })) {
      log.push(line);
      const found = line.match(/listening on (http:\/\/[^" ]+)/);
      if (found) {
        server.url = found[1];
        break;
      }
    }
    if (!server.url) throw new Error(`the server did not start:\n${log.join("\n")}`);
    // An unread pipe fills up and blocks the server.
    child.stderr.resume();
    return server;
  }

  async stop(signal = "SIGKILL") {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const ended = once(this.child, "exit");
    this.child.kill(signal);
    await ended;
  }

  /** Starts a new server at the same address. */
  restarted() {
    return Server.start(this.args, new URL(this.url).host);
  }

  /** Publishes `{ topic, event?, data }` or `{ topic, event?, text }`, and returns the id. */
  async send(event) {
    const answer = await fetch(`${this.url}/publish`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(event),
    });
    if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`);
    return (await answer.json()).id;
  }

  publish(topic, data) {
    return this.send({ topic, data });
  }
}
