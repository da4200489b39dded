// A running program of examples/ for tests. The environment variable EXAMPLES is the directory of the programs.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

export const EXAMPLES = process.env.EXAMPLES ?? fileURLToPath(new URL("../../target/debug/examples", import.meta.url));

export class Program {
  /** Starts an example, which logs its address. The first argument is the address to listen on. */
  static async start(name, address = "127.0.0.1:0", ...args) {
    const program = Object.assign(new Program(), { name, args });
    program.child = spawn(`${EXAMPLES}/${name}`, [address, ...args], { stdio: ["ignore", "ignore", "pipe"] });
    const log = [];
    for await (const line of createInterface({ input: program.child.stderr })) {
      log.push(line);
      program.url = line.match(/^listening on (http:.*)/)?.[1];
      if (program.url) break;
    }
    if (!program.url) throw new Error(`${name} did not start:\n${log.join("\n")}`);
    // An unread pipe fills up and blocks the program.
    program.child.stderr.resume();
    return program;
  }

  async stop(signal = "SIGKILL") {
    const ended = once(this.child, "exit");
    this.child.kill(signal);
    return ended;
  }

  /** Starts the example again, at the same address. */
  restarted() {
    return Program.start(this.name, new URL(this.url).host, ...this.args);
  }
}
